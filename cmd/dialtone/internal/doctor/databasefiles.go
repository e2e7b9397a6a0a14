package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/internal/config"
)

// The URL of the database and libpq's variables name files that the server has to read, such as the one with the
// password. Without that file, the driver connects without a password, and PostgreSQL says that the password is wrong.

// databaseFiles reports files that the URL of the database or a variable names and that the server cannot read. For a
// variable it is only a warning, because the server may have another value.
func (e *examination) databaseFiles() (list []finding.Finding) {
	u, err := owner.Of(e.Data)
	if err != nil || u == nil {
		return failed("files", err)
	}
	for _, f := range e.DatabaseFiles(e.Environ) {
		level, unless := finding.Fault, ""
		if f.Variable {
			level, unless = finding.Warning, "; if the server has another "+f.Name+", this does not matter"
		}
		add := func(cause, next string) {
			list = append(list, finding.New(level, "files", finding.AboutStart, cause, next+unless))
		}
		if _, err := os.Stat(f.Path); errors.Is(err, fs.ErrNotExist) {
			add(fmt.Sprintf("%s (%s) does not exist, so the server connects to the database without it", f.Path,
				f.Name), "restore the file, or correct the path")
		} else if at := u.Unreadable(f.Path); at != "" {
			add(fmt.Sprintf("the user %s of the server cannot read %s (%s), because the owner and mode of %s do not "+
				"allow it", u.Name, f.Path, f.Name, at), finding.ReadRemedy(u.Name, f.Path, at))
		}
	}
	return list
}

// environmentFiles returns the files that the variables of this command name for the database.
func environmentFiles(c config.Config, environ []string) (list []installation.ConfiguredFile) {
	for _, f := range c.DatabaseFiles(environ) {
		if f.Variable {
			list = append(list, installation.ConfiguredFile{Key: f.Name, Path: f.Path})
		}
	}
	return list
}
