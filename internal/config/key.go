package config

import (
	"cmp"
	_ "embed"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// manual is docs/configuration.md before gen adds the tables and the example of faults to it.
//
//go:embed manual.md
var manual string

// Manual returns the text from which gen generates docs/configuration.md.
func Manual() string { return manual }

const (
	envPrefix = "DIALTONE_"
	// dataPrefix begins a default that depends on the key data.
	dataPrefix = "DATA/"
)

// Key describes one key.
type Key struct {
	// Name is the full name: the table and the key inside it, such as mail.pickup_dir.
	Name string
	// Default is the default, as it would be written in a variable. If it is empty, Unset says what
	// that means.
	Default, Unset string
	// Placeholder is the name of the value in the help of the flag.
	Placeholder string
	// Type describes the value in a few words.
	Type string
	// Bool is set for a flag without a value, List for a list.
	Bool, List bool
	// Secret is set for a value that is accepted only from the environment. It has no flag.
	Secret bool

	index  []int
	format format
}

// Keys returns all keys in the order of the manual.
func Keys() []Key {
	return keysOf(reflect.TypeFor[Config](), "", nil)
}

// Default returns the default of a key, or an empty text if the key has none.
func Default(name string) string {
	for _, k := range Keys() {
		if k.Name == name {
			return k.Default
		}
	}
	return ""
}

func keysOf(t reflect.Type, table string, index []int) (keys []Key) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := table + f.Tag.Get("toml")
		at := append(index[:len(index):len(index)], i)
		isSecret := f.Type == reflect.TypeFor[Secret]()
		if f.Type.Kind() == reflect.Struct && !isSecret {
			keys = append(keys, keysOf(f.Type, name+".", at)...)
			continue
		}
		k := Key{
			Name: name, Default: f.Tag.Get("default"), Unset: f.Tag.Get("unset"), index: at,
			Placeholder: f.Tag.Get("placeholder"), Bool: f.Type.Kind() == reflect.Bool,
			List: f.Type.Kind() == reflect.Slice, Secret: isSecret,
		}
		k.format = formatOf(f)
		k.Type, k.format.kind = k.format.name, cmp.Or(k.format.kind, reflect.String)
		keys = append(keys, k)
	}
	return keys
}

// Changed returns the names of the keys whose values differ.
func Changed(a, b Config) (names []string) {
	for _, k := range Keys() {
		before, after := reflect.ValueOf(a).FieldByIndex(k.index), reflect.ValueOf(b).FieldByIndex(k.index)
		if !reflect.DeepEqual(before.Interface(), after.Interface()) {
			names = append(names, k.Name)
		}
	}
	return names
}

// Split returns the table, which is empty for the top level, and the name inside it.
func (k Key) Split() (table, name string) {
	i := strings.LastIndexByte(k.Name, '.')
	return k.Name[:max(i, 0)], k.Name[i+1:]
}

func (k Key) name() string { return k.Name }

// Variable is the environment variable of the key.
func (k Key) Variable() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Flag is the command-line flag of the key, with its hyphens.
func (k Key) Flag() string { return "--" + strings.NewReplacer(".", "-", "_", "-").Replace(k.Name) }

// Example is the default as the file writes it. It assumes that the other keys have their defaults.
func (k Key) Example() string {
	switch {
	case k.List:
		return "[]"
	case k.format.kind != reflect.String:
		return k.Default
	}
	return strconv.Quote(strings.Replace(k.Default, dataPrefix, "./data/", 1))
}

// TOML is a value as the file writes it. The text is as in the variable of the key.
func (k Key) TOML(text string) string {
	quote := strconv.Quote
	if k.format.kind != reflect.String {
		quote = func(s string) string { return s }
	}
	if !k.List {
		return quote(text)
	}
	var elements []string
	for e := range strings.SplitSeq(text, ",") {
		if e = strings.TrimSpace(e); e != "" {
			elements = append(elements, quote(e))
		}
	}
	return "[" + strings.Join(elements, ", ") + "]"
}

// Text is what the manual says about the key.
func (k Key) Text() string {
	_, text, ok := strings.Cut(manual, "\n### "+k.Name+"\n")
	if !ok {
		panic(fmt.Sprintf("config: manual.md has no section %s", k.Name))
	}
	text, _, _ = strings.Cut(text, "\n#")
	return strings.TrimSpace(text)
}

// Help is the help of the flag: the first sentence of Text, and the default.
func (k Key) Help() string {
	sentence, _, _ := strings.Cut(strings.Join(strings.Fields(k.Text()), " ")+" ", ". ")
	return fmt.Sprintf("%s (%s).", sentence, k.Default+k.Unset)
}
