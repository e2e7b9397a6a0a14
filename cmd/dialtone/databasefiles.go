package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/doctor"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
	"dialtone/internal/shellword"
)

// The URL of the database and libpq's variables name files that the server has to read, such as the one with the
// password. Without that file, the driver connects without a password, and PostgreSQL says that the password is wrong.

// unreadableBy returns what keeps a user from reading a file, or "". If this process is not root's, the user is its
// own.
func unreadableBy(o *datadir.Owner, path string) (at string) {
	if os.Geteuid() == 0 {
		return o.Denied(path)
	}
	f, err := regularfile.Open(path)
	if err == nil {
		f.Close()
	}
	if errors.Is(err, fs.ErrPermission) {
		return path
	}
	return ""
}

// letRead says how to let a user read a file.
func letRead(user, path, at string) string {
	if at == path {
		if link := doctor.Link("files", path); link != nil {
			return link.Cause + "; " + link.Next
		}
		return fmt.Sprintf("run as root: chown %s %s && chmod 600 %[2]s", shellword.Quote(user), shellword.Path(path))
	}
	return fmt.Sprintf("correct owner and mode of %s, or move the file to a directory that this user may pass", at)
}

// databaseFiles reports files that the URL of the database or a variable names and that the server cannot read. A
// variable may have another value for the server.
func (e *examination) databaseFiles() (list []doctor.Finding) {
	owner, err := datadir.Dir(e.Data).Owner()
	if err != nil || owner == nil {
		return nil
	}
	for _, f := range e.DatabaseFiles(e.program.environ) {
		level, unless := doctor.Fault, ""
		if f.Variable {
			level, unless = doctor.Warning, "; if the server has another "+f.Name+", this does not matter"
		}
		add := func(cause, next string) {
			list = append(list, doctor.New(level, "files", doctor.AboutStart, cause, next+unless))
		}
		if _, err := os.Stat(f.Path); errors.Is(err, fs.ErrNotExist) {
			add(fmt.Sprintf("there is no %s (%s), so connections to the database lack what is in it", f.Path, f.Name),
				"restore the file, or correct the path")
		} else if at := unreadableBy(owner, f.Path); at != "" {
			add(fmt.Sprintf("the user %s of the server cannot read %s (%s), because the owner and mode of %s do not "+
				"allow it", owner, f.Path, f.Name, at), letRead(owner.String(), f.Path, at))
		}
	}
	return list
}

// checkDatabaseFiles checks that the server can read the files that the URL of the database names, and that those with
// secrets are not for everybody.
func (s *setup) checkDatabaseFiles() error {
	owner := datadir.NewOwner(s.user.UID, s.user.GID)
	for _, f := range s.conf.DatabaseFiles(s.p.environ) {
		if f.Variable {
			continue // see sayVariables
		}
		if !filepath.IsAbs(f.Path) {
			return fault.New(fault.Invalid, "%s: give an absolute path in place of %s, because the server starts in "+
				"another directory", f.Name, f.Path)
		}
		if err := s.user.CheckReadable(f.Path); err != nil {
			if at := unreadableBy(owner, f.Path); at != "" {
				err = fmt.Errorf("%w; %s", err, letRead(s.user.Name, f.Path, at))
			}
			return fault.New(fault.Invalid, "%s: %v", f.Name, err)
		}
		if f.Secret == "" {
			continue
		}
		for _, found := range doctor.Private("files", map[string]string{f.Path: f.Secret}) {
			return fault.New(fault.Invalid, "%s: %s; %s", f.Name, terminal.OneLine(found.Cause),
				terminal.OneLine(found.Next))
		}
	}
	return nil
}

// sayVariables names the files of variables that the server could not read, if it gets the same variables.
func (s *setup) sayVariables(conf config.Config, say func(string, ...any)) {
	owner := datadir.NewOwner(s.user.UID, s.user.GID)
	for _, f := range conf.DatabaseFiles(s.p.environ) {
		if !f.Variable || s.user.CheckReadable(f.Path) == nil {
			continue
		}
		if at := unreadableBy(owner, f.Path); at != "" {
			say("  The user %s cannot read %s, so give the server another %s, or %s", s.user.Name, f.Path, f.Name,
				letRead(s.user.Name, f.Path, at))
		} else {
			say("  There is no %s, which %s names.", f.Path, f.Name)
		}
	}
}

// environmentFiles returns the files that the variables of this command name for the database.
func (p *program) environmentFiles(c config.Config) (list []installation.ConfiguredFile) {
	for _, f := range c.DatabaseFiles(p.environ) {
		if f.Variable {
			list = append(list, installation.ConfiguredFile{Key: f.Name, Path: f.Path})
		}
	}
	return list
}
