// Package printing prints values in every usual way, for tests of values that must not print what they hold.
package printing

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// timeless omits the time from a log, since its digits may equal those of a secret.
var timeless = &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}

// All returns what package fmt prints of a value with each verb, its JSON, and what the handlers of package slog log,
// in lower case.
func All(t testing.TB, v any) string {
	t.Helper()
	var out strings.Builder
	for _, verb := range []string{
		"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%e",
	} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	slog.New(slog.NewTextHandler(&out, timeless)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&out, timeless)).Info("x", "v", v)
	return strings.ToLower(out.String())
}
