package setup

import (
	"fmt"
	"path/filepath"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/config"
	"dialtone/internal/fault"
)

// checkDatabaseFiles checks that the server can read the files that the URL of the database names, and that not every
// user can read those with secrets.
func (s *setup) checkDatabaseFiles() error {
	for _, f := range s.conf.DatabaseFiles(s.Environ) {
		if f.Variable {
			continue // printVariables reports them
		}
		if !filepath.IsAbs(f.Path) {
			return fault.New(fault.Invalid, "%s: give an absolute path instead of %s, because the server starts in "+
				"another directory", f.Name, f.Path)
		}
		if err := s.user.CheckReadable(f.Path); err != nil {
			if at := s.user.Unreadable(f.Path); at != "" {
				err = fmt.Errorf("%w; %s", err, finding.ReadRemedy(s.user.Name, f.Path, at))
			}
			return fault.New(fault.Invalid, "%s: %v", f.Name, err)
		}
		if f.Secret == "" {
			continue
		}
		for _, found := range finding.Private("files", map[string]string{f.Path: f.Secret}) {
			return fault.New(fault.Invalid, "%s: %s; %s", f.Name, terminal.OneLine(found.Cause),
				terminal.OneLine(found.Next))
		}
	}
	return nil
}

// printVariables prints which files the server could not read if it had the same environment variables.
func (s *setup) printVariables(conf config.Config, printf func(string, ...any)) {
	for _, f := range conf.DatabaseFiles(s.Environ) {
		if !f.Variable || s.user.CheckReadable(f.Path) == nil {
			continue
		}
		if at := s.user.Unreadable(f.Path); at != "" {
			printf("  The user %s cannot read %s, so give the server another %s, or %s", s.user.Name, f.Path, f.Name,
				finding.ReadRemedy(s.user.Name, f.Path, at))
		} else {
			printf("  There is no %s, which %s names.", f.Path, f.Name)
		}
	}
}
