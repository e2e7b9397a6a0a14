package main

import (
	"reflect"
	"slices"
	"strings"
)

// unneeded returns expressions for kong.IgnoreFields that match all commands except those that args name. Reading the
// whole grammar takes longer than most commands run. It returns none for commands that print the whole grammar.
func unneeded(args []string) (expressions []string) {
	grammar := reflect.TypeFor[commandLine]()
	for i, arg := range args {
		var found reflect.Type
		var others []string
		for f := range grammar.Fields() {
			if _, ok := f.Tag.Lookup("cmd"); !ok {
				continue
			}
			name, ok := f.Tag.Lookup("name")
			if !ok {
				name = strings.ToLower(f.Name)
			}
			if name == arg {
				found = f.Type
			} else {
				others = append(others, f.Name)
			}
		}
		if found == nil || i == 0 && slices.Contains([]string{"completion", "man"}, arg) {
			break
		}
		if len(others) > 0 {
			expressions = append(expressions, "^"+grammar.Name()+`\.(`+strings.Join(others, "|")+")$")
		}
		grammar = found
	}
	return expressions
}
