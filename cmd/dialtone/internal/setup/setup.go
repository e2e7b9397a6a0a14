// Package setup sets up a new installation, for "dialtone init".
//
// It changes nothing before it has all answers and has checked them. It overwrites no file, except a configuration that
// sets nothing but the data directory. Another run continues one that was interrupted. Links and files that other users
// create next to the configuration or above the data directory cannot make root write, or change the owner of, anything
// elsewhere.
//
// Run takes answers from flags and the environment, and asks for the others on a terminal. It writes the configuration,
// creates the data directory with keys and store, adds the first tenant and an operator, writes examples for other
// programs, and prints what to do next.
//
// The package does not parse flags, does not start a server, and does not install the examples.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/atomicfile"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/store/postgres"
	"dialtone/internal/tenant"
)

// The defaults of a new installation, which are also those of the packages.
const (
	DefaultConfig = "/etc/dialtone/dialtone.toml"
	DefaultData   = "/var/lib/dialtone"
	defaultUser   = "dialtone"
)

// Answers are the answers that an operator has given by flags. Run asks for an empty answer, or uses its default.
type Answers struct {
	Host, Realm, Product string // of the first tenant
	TLS                  string // proxy, files or acme
	Listen               string
	TLSCert, TLSKey      string // file names
	Relay, PasswordFile  string
	Admin, Email         string // of the first operator
	User                 string // the user that the server runs as
	PhoneServer          string
}

// Options are the options of Run.
type Options struct {
	Answers
	Link bool // print the link to choose the password, and send no message
	Yes  bool // ask no questions

	Configuration string            // the file, or "" for the default
	Given         map[string]string // keys of the configuration that are set by flags, and their values
	Environ       []string

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Log            func(config.Log) *slog.Logger
}

// AnswerError is an error about answers that are missing or wrong.
type AnswerError struct{ error }

// Unwrap returns the wrapped error.
func (e AnswerError) Unwrap() error { return e.error }

// Run sets up an installation. If answers are missing or wrong, it fails with AnswerError and has changed nothing.
func Run(ctx context.Context, o Options) error {
	s := &setup{Options: o, ctx: ctx}
	text, err := s.prepare()
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if err = s.install(text); errors.Is(err, context.Canceled) {
		return fault.New(fault.Conflict, "the program was interrupted before it was done; run it again, and it "+
			"continues")
	}
	return err
}

// setup is one run of init. Until it has the lock, it changes nothing.
type setup struct {
	Options
	ctx context.Context

	path  string            // of the configuration
	old   *string           // the previous text of the configuration, or nil
	fresh bool              // whether init writes the configuration
	conf  config.Config     // the configuration; if fresh, without the answers until compose
	given map[string]string // the keys that the environment or flags set, and their values as in variables
	user  owner.User

	tenant *tenant.Tenant // the tenant of the host, or nil if it does not exist yet
	exists bool           // whether the tenant has the operator's account
}

// install writes the configuration if fresh is set, and creates everything else.
func (s *setup) install(text string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.writeConfig(text); err != nil {
		return err
	}
	if err := s.createData(); err != nil {
		return err
	}
	return s.withStore(func(in *installation.Installation) error {
		if err := runas.AsCaller(func() error { return shareConfig(s.path, s.conf.Data) }); err != nil {
			return err
		}
		if err := s.addTenant(in); err != nil {
			return err
		}
		o := in.Operators(s.Log(in.Log), s.Stderr)
		if err := errors.Join(s.addAdmin(in, o), o.Flush()); err != nil {
			return err
		}
		dir := examplesDir(s.path)
		if err := runas.AsCaller(func() error { return s.writeExamples(in, dir) }); err != nil {
			return err
		}
		return s.printSteps(in, dir)
	})
}

// withStore opens the store, or creates it if there is none, calls do, and closes the store.
func (s *setup) withStore(do func(*installation.Installation) error) (err error) {
	c, err := config.Load(s.path, s.Environ, nil)
	if err != nil {
		return err
	}
	lost := installation.LostParts(s.ctx, c, installation.Always)
	in, err := installation.Open(s.ctx, c, installation.Options{Create: installation.Always})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	s.warnOfLost(c, lost)
	return do(in)
}

// printf prints a line about what was done.
func (s *setup) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(s.Stdout, format+"\n", args...)
	return err
}

// prepare gets and checks all answers. It returns the text of the configuration if init writes it.
func (s *setup) prepare() (text string, err error) {
	if err := s.readConfig(); err != nil {
		return "", err
	}
	if s.user, err = chooseUser(s.conf.Data, s.User); err != nil {
		return "", err
	}
	for _, dir := range []string{filepath.Dir(s.path), s.conf.Data} {
		if err := writable(dir); err != nil {
			return "", err
		}
	}
	if err := checkExamples(examplesDir(s.path)); err != nil {
		return "", err
	}
	if err := s.checkDatabaseFiles(); err != nil {
		return "", err
	}
	if err := s.checkRights(); err != nil {
		return "", err
	}
	if err := s.askAll(); err != nil || !s.fresh {
		return "", err
	}
	return s.compose()
}

// writable returns an error if this process can neither write into a directory nor create it.
func writable(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		switch err := unix.Access(at, unix.W_OK); {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
		case err != nil:
			return fault.New(fault.Conflict, "%s cannot be written: %s: %v; run init as another user, such as root, "+
				"or give another --config and --data", dir, at, err)
		default:
			return nil
		}
	}
}

// checkRights fails if the database user may not create a store in PostgreSQL. It ignores other errors of the database,
// which checkHost reports.
func (s *setup) checkRights() error {
	if s.conf.Database == "" {
		return nil
	}
	if err := postgres.CheckCreate(s.ctx, s.conf.Database); errors.Is(err, postgres.ErrNoRights) {
		return err
	}
	return nil
}

// warnOfLost warns about a store that was created although there were keys. It does not warn about keys of an earlier
// run of init that ended before it had created the store: they are newer than the configuration, and no server has run
// with them.
func (s *setup) warnOfLost(c config.Config, lost []installation.LostPart) {
	written, err := os.Stat(s.path)
	if err != nil {
		return
	}
	_, nodeErr := os.Stat(datadir.Dir(c.Data).NodeFile())
	key, err := os.Stat(installation.KeySources(c.Keys).Seal.Path)
	if s.old != nil && err == nil && !key.ModTime().Before(written.ModTime()) && errors.Is(nodeErr, fs.ErrNotExist) {
		return
	}
	for _, part := range lost {
		fmt.Fprintf(terminal.To(s.Stderr), "warning: %s; %s\n", part.Event, part.Hint)
	}
}

// lock prevents a second init with the same configuration until unlock is called or the process ends. It removes the
// temporary files of an init that was killed.
func (s *setup) lock() (unlock func(), err error) {
	if err := s.ctx.Err(); err != nil {
		return nil, fault.New(fault.Conflict, "nothing was changed: the program was interrupted")
	}
	dir := filepath.Dir(s.path)
	if err := atomicfile.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(d.Close(), fault.New(fault.Conflict,
			"nothing was changed: another dialtone init is running in %s; run this one again later", dir))
	} else if err != nil && !errors.Is(err, unix.ENOLCK) && !errors.Is(err, errors.ErrUnsupported) {
		return nil, errors.Join(d.Close(), fmt.Errorf("lock %s: %w", dir, err))
	}
	now, err := readIfAny(s.path)
	if err == nil && (now == nil) != (s.old == nil) || now != nil && s.old != nil && *now != *s.old {
		err = fault.New(fault.Conflict, "nothing was changed: somebody else has changed %s; run init again", s.path)
	}
	if err == nil {
		err = removeLeftovers(dir)
	}
	if err != nil {
		return nil, errors.Join(d.Close(), err)
	}
	return func() { d.Close() }, nil
}
