package config

import (
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// loader is the state of one Load.
type loader struct {
	config Config
	keys   []Key
	// set says which source gave each key its value. A key with its default is not in it.
	set    map[string]place
	faults Faults
	// unread is set if the file could not be read, so that its keys are not known.
	unread bool
}

// Load reads the file at path, applies the environment (entries as os.Environ returns them) and the
// flags (from the name of the key to the text), and checks the result. If path is empty, it reads
// the file that DIALTONE_CONFIG names, if any. Relative paths stay relative to the working
// directory.
//
// The error is of type Faults and has every fault: those of the file by line and column, then those
// of the environment, then those of the flags. Config is empty then.
func Load(path string, environ []string, flags map[string]string) (Config, error) {
	return load(environ, flags, func(l *loader, named string) {
		if path != "" {
			l.readFile(path, "")
		} else if named != "" {
			l.readFile(named, configVariable+" names this file")
		}
	})
}

// Parse is Load for the text of a file that does not exist yet. name is its name in faults.
func Parse(name, text string, environ []string) (Config, error) {
	return load(environ, nil, func(l *loader, _ string) { l.readTOML(name, []byte(text)) })
}

// load is Load with a function that reads the file. The environment may name one.
func load(environ []string, flags map[string]string, read func(l *loader, named string)) (Config, error) {
	l := &loader{keys: Keys(), set: map[string]place{}}
	for _, k := range l.keys {
		if !strings.HasPrefix(k.Default, dataPrefix) {
			l.applyText(place{}, k, k.Default)
		}
	}
	variables := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && !kubernetesVariable.MatchString(entry) {
			variables[name] = value
		}
	}
	named := variables[configVariable]
	delete(variables, configVariable)
	read(l, named)
	l.readVariables(variables)
	l.readFlags(flags)
	for _, k := range l.keys {
		if sub, ok := strings.CutPrefix(k.Default, dataPrefix); ok && l.value(k).IsZero() {
			l.value(k).SetString(filepath.Join(l.config.Data, sub))
		}
	}
	l.check()
	if len(l.faults) > 0 {
		slices.SortStableFunc(l.faults, compareFaults)
		return Config{}, l.faults
	}
	return l.config, nil
}

const configVariable = envPrefix + "CONFIG"

// kubernetesVariable matches the variables that Kubernetes adds to every pod of a namespace with a
// Service called dialtone or dialtone-something. No operator wrote them.
var kubernetesVariable = regexp.MustCompile(`^DIALTONE(_[A-Z0-9_]+)?_` +
	`(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=|PORT_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?=|PORT=[a-z]+://)`)

// readVariables sets the keys whose variables are in the environment.
func (l *loader) readVariables(variables map[string]string) {
	for name, text := range variables {
		at := place{Source: quoteName(name), rank: rankEnvironment}
		if k, ok := l.find(name, Key.Variable); ok {
			l.applyText(at, k, text)
		} else {
			l.unknown(at, "", "unknown variable", strings.TrimPrefix(name, envPrefix), Key.Variable)
		}
	}
}

// readFlags sets the keys that flags names.
func (l *loader) readFlags(flags map[string]string) {
	for name, text := range flags {
		k, ok := l.find(name, Key.name)
		at := place{Source: quoteName(Key{Name: name}.Flag()), rank: rankFlag}
		switch {
		case !ok:
			l.unknown(at, "", "unknown flag", name, Key.Flag)
		case k.Secret:
			l.misplacedSecret(at, k)
		case k.Name == "database" && hasPassword(text):
			l.fault(at, name, "has a password in it, which every user of this machine could see",
				"use "+k.Variable()+", the file, or a PGPASSFILE")
		default:
			l.applyText(at, k, text)
		}
	}
}

func (l *loader) misplacedSecret(at place, k Key) {
	l.fault(at, k.Name, "is taken from "+k.Variable()+" alone, since other users may read this source", "")
}

// applyText sets a key from one text. Commas separate the elements of a list.
func (l *loader) applyText(at place, k Key, text string) {
	switch {
	case !k.List:
		l.apply(at, k, text)
	case strings.TrimSpace(text) == "":
		l.apply(at, k)
	default:
		l.apply(at, k, strings.Split(text, ",")...)
	}
}

// apply sets a key from its text, or from the texts of its elements, and reports those that are
// wrong. It replaces the existing elements of a list.
func (l *loader) apply(at place, k Key, texts ...string) {
	if at.rank != rankDefault {
		l.set[k.Name] = at
	}
	field := l.value(k)
	field.SetZero()
	for _, text := range texts {
		v := field
		if k.List {
			v = reflect.New(field.Type().Elem()).Elem()
			text = strings.TrimSpace(text)
		}
		if hint, ok := k.format.parse(v, text); !ok {
			shown := k.show(text)
			if at.rank == rankFile && k.format.kind != reflect.String {
				shown = text
			}
			l.fault(at, k.Name, "expected "+k.format.want+", not "+shown, hint)
		} else if k.List {
			field.Set(reflect.Append(field, v))
		}
	}
}

// value is the field of a key.
func (l *loader) value(k Key) reflect.Value {
	return reflect.ValueOf(&l.config).Elem().FieldByIndex(k.index)
}

// find returns the key whose spelling, as spell writes it, is name.
func (l *loader) find(name string, spell func(Key) string) (k Key, ok bool) {
	i := slices.IndexFunc(l.keys, func(k Key) bool { return spell(k) == name })
	if i < 0 {
		return Key{}, false
	}
	return l.keys[i], true
}
