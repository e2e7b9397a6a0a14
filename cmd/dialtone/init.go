package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/atomicfile"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/store/postgres"
	"dialtone/internal/tenant"
)

// What a new installation has unless the operator says otherwise, as in the packages.
const (
	newConfig = "/etc/dialtone/dialtone.toml"
	newData   = "/var/lib/dialtone"
	newUser   = "dialtone"
)

type initCommand struct {
	Host  string `placeholder:"HOST" help:"Host name of the first tenant."`
	Realm string `placeholder:"NAME" help:"Digest realm (the host). Fixed while the tenant has accounts."`
	// The names of these are those of keys and of other commands.
	Product string `placeholder:"NAME" help:"Name of the platform for people (the host)."`

	TLS string `name:"tls" enum:"proxy,files,acme," default:"" placeholder:"HOW" help:"proxy, files or acme (proxy)."`

	Listen       string `placeholder:"ADDR" help:"Address for people (127.0.0.1:8080 behind a proxy, otherwise :443)."`
	TLSCert      string `name:"tls-cert" placeholder:"FILE" help:"Certificate chain, with --tls=files."`
	TLSKey       string `name:"tls-key" placeholder:"FILE" help:"File with its private key."`
	Relay        string `name:"mail-relay" placeholder:"URL" help:"SMTP relay (none: the pickup directory)."`
	PasswordFile string `name:"mail-relay-password-file" placeholder:"FILE" help:"File with its password (none)."`
	Admin        string `placeholder:"USER" help:"User name of the first operator."`
	Email        string `placeholder:"ADDRESS" help:"E-mail address of the first operator."`
	Link         bool   `help:"Print the link to choose the password, in place of the message."`
	User         string `placeholder:"NAME" help:"User that the server runs as (dialtone for root, otherwise you)."`
	PhoneServer  string `default:"kamailio" placeholder:"NAME" help:"Phone server that gets a token (kamailio)."`
	Yes          bool   `help:"Ask nothing."`
}

// Help is what "dialtone init --help" adds.
func (initCommand) Help() string {
	return "It writes a configuration (--config, here " + newConfig + "), creates the data directory (--data, here " +
		newData + ") with keys and store, adds the first tenant and an operator, and prints the DNS records to add. " +
		"Beside the configuration, the directory init gets examples for nginx, Kamailio and systemd. On a terminal, " +
		"it asks for what is not given. Answers are checked before anything is written. What variables such as " +
		"DIALTONE_DATABASE say goes into the configuration.\n\nNothing that exists is overwritten, except a " +
		"configuration that sets at most data, such as that of the Debian package: run it again if it was interrupted."
}

// setup is one run of init. Until it has the lock, it changes nothing.
type setup struct {
	*initCommand
	p *program

	path  string            // the configuration
	old   *string           // its text before, or nil
	fresh bool              // whether it is written
	conf  config.Config     // what it says; if it is written, without the answers until they are complete
	given map[string]string // its keys as far as the environment and the flags have them, as in variables
	user  installation.User

	tenant *tenant.Tenant // of the host, if it exists
	exists bool           // whether it has the operator's account
}

func (c *initCommand) Run(p *program) error {
	s := &setup{initCommand: c, p: p}
	text, err := s.prepare()
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if err = s.install(text); errors.Is(err, context.Canceled) {
		return fault.New(fault.Conflict, "the program was told to end before it was done; run it again, and it "+
			"continues")
	}
	return err
}

// install writes a new configuration, unless text is empty, and all that belongs to it.
func (s *setup) install(text string) error {
	p := s.p
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
		o := operation{p.operators(in), in, p.caller(), s.tenant}
		if err := errors.Join(s.addAdmin(o), o.Flush()); err != nil {
			return err
		}
		dir := examplesDir(s.path)
		if err := runas.AsCaller(func() error { return s.writeExamples(in, dir) }); err != nil {
			return err
		}
		return s.printSteps(in, dir)
	})
}

// withStore opens the store, and creates it if there is none, runs a function with it, and closes it.
func (s *setup) withStore(do func(*installation.Installation) error) (err error) {
	c, err := s.p.settings()
	if err != nil {
		return err
	}
	lost := installation.LostParts(s.p.ctx, c, installation.Always)
	in, err := installation.Open(s.p.ctx, c, installation.Options{Create: installation.Always})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	s.warnOfLost(c, lost)
	return do(in)
}

// prepare asks and checks. It returns the text of the configuration if there is none.
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

// checkRights fails if the store cannot be created in PostgreSQL. Other errors of the database show when the host is
// looked up.
func (s *setup) checkRights() error {
	if s.conf.Database == "" {
		return nil
	}
	if err := postgres.CheckCreate(s.p.ctx, s.conf.Database); errors.Is(err, postgres.ErrNoRights) {
		return err
	}
	return nil
}

// LogLost warns of a store that was created though there were keys, unless they are those of a run of init that
// ended before it had created the store: they are newer than the configuration, and no server has run with them.
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
		fmt.Fprintf(terminal.To(s.p.stderr), "warning: %s; %s\n", part.Event, part.Hint)
	}
}

// lock keeps a second init with the same configuration away, until unlock is called or the process ends. It removes
// what one that was killed has left.
func (s *setup) lock() (unlock func(), err error) {
	if err := s.p.ctx.Err(); err != nil {
		return nil, fault.New(fault.Conflict, "nothing was changed: the program was told to end")
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
			"nothing was changed: another dialtone init is at work in %s; run this one again later", dir))
	} else if err != nil && !errors.Is(err, unix.ENOLCK) && !errors.Is(err, errors.ErrUnsupported) {
		return nil, errors.Join(d.Close(), fmt.Errorf("lock %s: %w", dir, err))
	}
	now, err := readIfAny(s.path)
	if err == nil && (now == nil) != (s.old == nil) || now != nil && s.old != nil && *now != *s.old {
		err = fault.New(fault.Conflict, "nothing was changed: %s has changed meanwhile; run init again", s.path)
	}
	if err == nil {
		err = removeLeftovers(dir)
	}
	if err != nil {
		return nil, errors.Join(d.Close(), err)
	}
	return func() { d.Close() }, nil
}

// addTenant adds the tenant unless it exists.
func (s *setup) addTenant(in *installation.Installation) error {
	if s.tenant != nil {
		return s.p.say("the tenant %s exists", s.tenant.Host)
	}
	// The store keeps microseconds.
	options := tenantOptions{Realm: &s.Realm, Product: &s.Product}
	t, err := options.apply(tenant.Tenant{Host: s.Host, Created: time.Now().UTC().Truncate(time.Microsecond)})
	if err != nil {
		return err
	}
	if t, err = in.Store.AddTenant(s.p.ctx, t); err != nil {
		return err
	}
	s.tenant = &t
	return s.p.say("added the tenant %s with the realm %s", t.Host, t.Realm)
}

// addAdmin adds the operator, who chooses a password by a link.
func (s *setup) addAdmin(o operation) error {
	n := account.NewAccount{
		User: s.Admin, Name: s.Admin, Email: s.Email, Role: account.Admin, Active: s.Link, NoMessage: s.Link,
	}
	if s.exists {
		return s.sayExists(o)
	}
	a, err := o.Add(s.p.ctx, o.caller, o.tenant, n, "")
	if errors.Is(err, account.ErrTaken) {
		return s.sayExists(o)
	} else if err != nil {
		return named(err)
	}
	if !s.Link {
		if s.conf.Mail.Relay == "" {
			return s.p.say("added the operator %s; the server, once it runs, writes a message to %s with a link to "+
				"choose the password into %s, from where your mail server has to take it", a.User, a.Email,
				s.conf.Mail.PickupDir)
		}
		return s.p.say("added the operator %s; the server, once it runs, sends a message with a link to choose the "+
			"password to %s", a.User, a.Email)
	}
	if o.tenant.PublicURL == "" {
		o.tenant.PublicURL = o.in.DefaultURL(o.tenant.Host)
	}
	link, until, err := o.ResetLink(s.p.ctx, o.caller, o.tenant, s.Admin, "", account.MaxResetLife)
	if err != nil {
		return err
	}
	return s.p.say("added the operator %s, who gets no message\nthis link to choose the password works once, until "+
		"%s:\n  %s", a.User, until.Format(time.RFC3339), link)
}

func (s *setup) sayExists(o operation) error {
	return s.p.say("the account %s exists; for another link, run: dialtone account reset-link %s --tenant %s",
		s.Admin, s.Admin, o.tenant.Host)
}
