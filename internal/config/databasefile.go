package config

import (
	"net/url"
	"slices"
	"strings"
)

// DatabaseFile is a file that the URL of the database, or a variable of libpq, names. It is not a
// key of the configuration, but each program that connects to the database has to read it.
type DatabaseFile struct {
	Name     string // "passfile in database", or the variable
	Path     string
	Secret   string // the content that nobody else may read, or ""
	Variable bool   // named by a variable: a server may have another one
}

// databaseFiles are the parameters of the URL that name files, the variables that can replace them
// (PostgreSQL 15, sections 34.1.2 and 34.15), and what is secret in the files.
var databaseFiles = []struct{ parameter, variable, secret string }{
	{"passfile", "PGPASSFILE", "the password of the database"},
	{"sslkey", "PGSSLKEY", "the private key for the database"},
	{"sslcert", "PGSSLCERT", ""},
	{"sslrootcert", "PGSSLROOTCERT", ""},
	{"servicefile", "PGSERVICEFILE", "the parameters of the database"},
}

// DatabaseFiles returns the files that the URL of the database and the variables name, except those
// that are not read: the password file if the password is set elsewhere, and the files for TLS if
// sslmode is disable.
func (c Config) DatabaseFiles(environ []string) (list []DatabaseFile) {
	m := splitDatabaseURL(c.Database)
	if m == nil {
		return nil
	}
	parameters, _ := url.ParseQuery(m[3]) // the driver refuses what is wrong
	variable := func(name string) string {
		i := slices.IndexFunc(environ, func(entry string) bool { return strings.HasPrefix(entry, name+"=") })
		if i < 0 {
			return ""
		}
		return strings.TrimPrefix(environ[i], name+"=")
	}
	value := func(parameter, name string) string {
		if parameters.Has(parameter) {
			return parameters.Get(parameter)
		}
		return variable(name)
	}
	password := m[1] != "" && m[1] != ":" || value("password", "PGPASSWORD") != ""
	plain := value("sslmode", "PGSSLMODE") == "disable"
	service := value("service", "PGSERVICE") != ""
	for _, f := range databaseFiles {
		switch {
		case f.parameter == "passfile" && password, strings.HasPrefix(f.parameter, "ssl") && plain,
			f.parameter == "servicefile" && !service, value(f.parameter, f.variable) == "system":
			continue
		}
		if path := parameters.Get(f.parameter); path != "" {
			list = append(list, DatabaseFile{f.parameter + " in database", path, f.secret, false})
		} else if path := variable(f.variable); path != "" && !parameters.Has(f.parameter) {
			list = append(list, DatabaseFile{f.variable, path, f.secret, true})
		}
	}
	return list
}
