package main

import (
	"fmt"
	"reflect"

	"dialtone/internal/config"
)

// keyFlags are flags for keys of the configuration. They are generated from the keys, so that a flag cannot differ from
// its key in name, default or help.
type keyFlags struct {
	keys []config.Key
	// Values points to a struct for kong with one pointer for each key, which is nil if its flag is not given.
	Values any `embed:""`
}

func newKeyFlags(keys []config.Key) keyFlags {
	fields := make([]reflect.StructField, len(keys))
	for i, k := range keys {
		t := reflect.TypeFor[*string]()
		if k.Bool {
			t = reflect.TypeFor[*bool]() // a flag without a value
		}
		tag := fmt.Sprintf("name:%q placeholder:%q help:%q", k.Flag()[2:], k.Placeholder, k.Help())
		fields[i] = reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: t, Tag: reflect.StructTag(tag)}
	}
	return keyFlags{keys: keys, Values: reflect.New(reflect.StructOf(fields)).Interface()}
}

// addTo adds the given flags to a map from key to value. It does not check the values.
func (f keyFlags) addTo(given map[string]string) {
	values := reflect.ValueOf(f.Values).Elem()
	for i, k := range f.keys {
		if v := values.Field(i); !v.IsNil() {
			given[k.Name] = fmt.Sprint(v.Elem())
		}
	}
}

// newCommandLine returns the grammar: --data and --database for every command, and the flags of all
// other keys for serve.
func newCommandLine() *commandLine {
	var shared, serve []config.Key
	for _, k := range config.Keys() {
		switch {
		case k.Secret: // the environment only
		case k.Name == "data" || k.Name == "database":
			shared = append(shared, k)
		default:
			serve = append(serve, k)
		}
	}
	return &commandLine{Settings: newKeyFlags(shared), Serve: serveCommand{Settings: newKeyFlags(serve)}}
}
