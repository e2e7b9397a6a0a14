package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// array prints a JSON array element by element, so that memory does not grow with the array.
func array(to io.Writer, all func(each func(any) error) error) error {
	before, end := "[\n  ", "[]\n"
	err := all(func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(to, "%s%s", before, b)
		before, end = ",\n  ", "\n]\n"
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(to, end)
	return err
}

// arrayOf prints a list as a JSON array.
func arrayOf[T any](to io.Writer, list []T) error {
	return array(to, func(each func(any) error) error {
		for _, v := range list {
			if err := each(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// indented prints a list as a JSON array with one member per line.
func indented[T any](to io.Writer, list []T) error {
	out := json.NewEncoder(to)
	out.SetIndent("", "  ")
	return out.Encode(list)
}
