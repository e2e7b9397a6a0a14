package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"time"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/store/migrations"
	"dialtone/internal/tenant"
)

// configCheck holds the arguments of CheckConfiguration.
type configCheck struct {
	ctx     context.Context
	file    string // of the configuration, or ""
	environ []string
	stderr  io.Writer // for notes
}

// CheckConfiguration checks the files and directories that a valid configuration names. It fails if a server would not
// start with it, and prints notes about other faults to stderr. file is the path of the configuration, or "".
func CheckConfiguration(
	ctx context.Context, c config.Config, file string, environ []string, stderr io.Writer,
) error {
	k := configCheck{ctx, file, environ, stderr}
	if _, err := adapter.Templates(c.Mail.TemplatesDir); err != nil {
		return err
	}
	if err := k.checkCertificates(c); err != nil {
		return err
	}
	k.noteMissing(c)
	if err := k.noteUnreadable(c); err != nil {
		return err
	}
	if text, next := pickupFault(c); text != "" {
		fmt.Fprintf(terminal.To(stderr), "note: %s; %s\n", text, next)
	}
	k.notePublic(c)
	return nil
}

// checkCertificates checks the certificate files. It prints all faults but the last, which it returns.
func (k configCheck) checkCertificates(c config.Config) error {
	var hosts []string
	if len(c.TLS.Cert) > 0 {
		var err error
		if hosts, err = k.hostsOf(c); err != nil {
			return err
		}
	}
	faults := certificateFaults(c, hosts)
	if len(faults) == 0 {
		return nil
	}
	for _, f := range faults[:len(faults)-1] {
		fmt.Fprintln(terminal.To(k.stderr), "dialtone:", f)
	}
	return fmt.Errorf("%w: %s", tlscert.ErrUnusable, faults[len(faults)-1])
}

// secretFiles returns the files of an installation that contain secrets, with a description of the secret. It leaves
// out keys, whose modes are checked whenever they are read.
func secretFiles(c config.Config, environ []string) map[string]string {
	files := make(map[string]string)
	if c.Database == "" {
		for _, suffix := range []string{"", "-wal"} {
			files[datadir.Dir(c.Data).Database()+suffix] = "names, addresses and sealed credentials"
		}
	}
	add := func(path, what string) {
		if path != "" {
			files[path] = what
		}
	}
	add(c.Mail.RelayPasswordFile, "the password of the relay")
	add(c.Trace.HeaderFile, "the header for traces")
	for _, f := range c.DatabaseFiles(environ) {
		if f.Secret != "" {
			add(f.Path, f.Secret)
		}
	}
	return files
}

// urlPassword matches the URL of a database with a password.
var urlPassword = regexp.MustCompile(`//[^/@]*:[^/@]+@|[?&]password=.`)

// hasPassword reports whether the configuration file, if there is one, contains the password of the database.
func hasPassword(file string, c config.Config) bool {
	if file == "" || !urlPassword.MatchString(c.Database) {
		return false
	}
	text, err := runas.ReadNamed(file)
	return err == nil && bytes.Contains(text, []byte(c.Database))
}

// notePublic notes the files with secrets that every user can read.
func (k configCheck) notePublic(c config.Config) {
	files := secretFiles(c, k.environ)
	if hasPassword(k.file, c) {
		files[k.file] = "the password of the database"
	}
	for _, f := range finding.Private("files", files) {
		fmt.Fprintf(terminal.To(k.stderr), "note: %s; %s\n", terminal.OneLine(f.Cause), terminal.OneLine(f.Next))
	}
}

// noteMissing notes configured files that do not exist. A server may start without them, because it reads some only
// when it needs them, such as the password for the relay.
func (k configCheck) noteMissing(c config.Config) {
	for _, f := range append(installation.ConfiguredFiles(c), environmentFiles(c, k.environ)...) {
		if _, err := os.Stat(f.Path); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(terminal.To(k.stderr), "note: %s: there is no %s; create it, or correct the path: a server "+
				"starts without the file and fails when it needs it\n", f.Key, f.Path)
		}
	}
}

// noteUnreadable notes configured files that the owner of the data directory cannot read. Only root needs this check:
// root can read all files, so the other checks do not notice.
func (k configCheck) noteUnreadable(c config.Config) error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := owner.Of(c.Data)
	if err != nil || u == nil || u.UID == 0 {
		return err
	}
	for _, f := range append(installation.ConfiguredFiles(c), environmentFiles(c, k.environ)...) {
		if at := u.Denied(f.Path); at != "" {
			fmt.Fprintf(terminal.To(k.stderr), "note: %s: the user %s, who owns %s, cannot read %s: the owner and "+
				"mode of %s do not allow it, and a server that runs as this user cannot use it\n",
				f.Key, u.Name, c.Data, f.Path, at)
		}
	}
	return nil
}

// pickupFault returns why the owner of the data directory can neither use nor create the pickup directory, and what to
// do. It returns "" if there is no fault.
func pickupFault(c config.Config) (text, next string) {
	u, err := owner.Of(c.Data)
	if err != nil || u == nil {
		return "", ""
	}
	at := u.CannotUse(c.Mail.PickupDir)
	if at == "" {
		return "", ""
	}
	what := "use"
	if _, err := os.Stat(c.Mail.PickupDir); errors.Is(err, fs.ErrNotExist) {
		what = "create"
	}
	return fmt.Sprintf("the user %s of the server cannot %s the pickup directory %s (mail.pickup_dir): the owner and "+
			"mode of %s do not allow it", u.Name, what, c.Mail.PickupDir, at),
		finding.PickupRemedy(u.Name, u.Group, c.Mail.PickupDir)
}

// certificateFaults returns the faults of the certificate files, for the hosts of the tenants.
func certificateFaults(c config.Config, hosts []string) []string {
	var faults []string
	_ = runas.AsCaller(func() error {
		faults = readCertificateFaults(c, hosts)
		return nil
	})
	return faults
}

func readCertificateFaults(c config.Config, hosts []string) []string {
	faults := tlscert.Check("ops.tls_cert", "ops.tls_key", adapter.OpsPairs(c.Ops), nil, time.Now())
	if len(c.TLS.Cert) > 0 {
		pairs := adapter.PublicPairs(c.TLS)
		faults = append(faults, tlscert.Check("tls.cert", "tls.key", pairs, hosts, time.Now())...)
	}
	for _, f := range []installation.ConfiguredFile{
		{Key: "ops.tls_client_ca", Path: c.Ops.TLSClientCA}, {Key: "tls.acme_ca_file", Path: c.TLS.CAFile},
	} {
		if _, err := adapter.Authorities(f.Path); err != nil {
			faults = append(faults, f.Key+": "+err.Error())
		}
	}
	return faults
}

// hostsOf returns the hosts of the tenants that people reach from other machines. It returns none before the first
// start of a server, and before an update of the schema, when the new program cannot read the store.
func (k configCheck) hostsOf(c config.Config) (hosts []string, err error) {
	in, err := installation.Open(k.ctx, c, installation.Options{})
	if errors.Is(err, installation.ErrNoStore) {
		return nil, nil
	} else if errors.Is(err, migrations.ErrOlder) {
		fmt.Fprintln(terminal.To(k.stderr), "note: tls.cert was not compared with the hosts of the tenants:", err)
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("the hosts of the tenants cannot be read: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	list, _, err := in.Store.Tenants(k.ctx)
	for _, t := range list {
		if !tenant.Loopback(t.Host) {
			hosts = append(hosts, t.Host)
		}
	}
	return hosts, err
}
