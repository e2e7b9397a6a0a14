package config

import (
	"slices"
	"testing"
)

// Only files that are read are returned, and the URL overrides the variables.
func TestDatabaseFiles(t *testing.T) {
	for _, c := range []struct {
		url     string
		environ []string
		want    []string
	}{
		{"", []string{"PGPASSFILE=/v"}, nil},
		{"postgres://u@h/d", nil, nil},
		{"postgres://u@h/d", []string{"PGPASSFILE=/v", "PGSSLROOTCERT=/ca"},
			[]string{"PGPASSFILE /v", "PGSSLROOTCERT /ca"}},
		{"postgres://u@h/d?passfile=/a%20b", []string{"PGPASSFILE=/v"}, []string{"passfile in database /a b"}},
		{"postgres://u:p@h/d?passfile=/a", []string{"PGPASSFILE=/v"}, nil},
		{"postgres://u@h/d?passfile=/a", []string{"PGPASSWORD=p"}, nil},
		{"postgres://u@h/d?sslcert=/c&sslkey=/k", nil, []string{"sslkey in database /k", "sslcert in database /c"}},
		{"postgres://u@h/d?sslcert=/c&sslkey=/k&sslmode=disable", nil, nil},
		{"postgres://u@h/d?sslrootcert=system", nil, nil},
		{"postgres://u@h/d", []string{"PGSERVICEFILE=/s"}, nil},
		{"postgres://u@h/d?service=x", []string{"PGSERVICEFILE=/s"}, []string{"PGSERVICEFILE /s"}},
	} {
		var got []string
		for _, f := range (Config{Database: c.url}).DatabaseFiles(c.environ) {
			got = append(got, f.Name+" "+f.Path)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %q: %q", c.url, c.environ, got)
		}
	}
}
