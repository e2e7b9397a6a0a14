// Package doctor checks an installation for faults, for the commands doctor, verify, health, config check and mail
// doctor.
//
// It changes nothing and sends no message. Each finding of Examine states a fault and what to do about it. A check that
// hangs does not delay or hide the findings of the others: Examine ends within ten seconds.
//
// Examine first checks the configuration and the files, then opens the store, and then runs the other checks
// concurrently: the content of the store, the disks, the mail, the DNS, the public URLs, and the readiness of the
// server on this machine (QueryReadiness). Verify reads every row of the store. CheckConfiguration checks the files
// that the configuration names.
//
// The package repairs nothing, and does not choose how findings are printed. Checks that need no installation are in
// package finding.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/regularfile"
	"dialtone/internal/tenant"
)

// The time limits of the checks, by phase: for the files if they are checked alone, until the store is open, and for
// all other checks together.
const (
	filesTime = time.Second
	openTime  = 3500 * time.Millisecond
	checkTime = 5 * time.Second
)

// Options are the options of Examine.
type Options struct {
	Settings      func() (config.Config, error)
	Configuration string // the file, or ""
	Environ       []string
	DNS           *net.Resolver
	CAFile        string // additional certificate authorities for public URLs, or ""
}

// Examine returns all findings. If the configuration is invalid, it checks nothing else.
func Examine(ctx context.Context, o Options) []finding.Finding {
	conf, err := o.Settings()
	if faults, ok := errors.AsType[config.Faults](err); ok {
		list := []finding.Finding{}
		for _, f := range faults {
			list = append(list, finding.New(finding.Fault, "configuration", finding.AboutStart, f.String(),
				"correct it; until then, no server starts, and nothing else can be checked"))
		}
		return list
	} else if err != nil {
		return []finding.Finding{finding.New(finding.Fault, "configuration", finding.AboutStart, err.Error(),
			"correct it; until then, no server starts")}
	}
	var roots *x509.CertPool
	if o.CAFile != "" {
		extra, err := regularfile.Read(o.CAFile)
		if roots, _ = x509.SystemCertPool(); roots == nil {
			roots = x509.NewCertPool()
		}
		if err != nil || !roots.AppendCertsFromPEM(extra) {
			return []finding.Finding{finding.New(finding.Fault, "configuration", finding.AboutDoctor,
				o.CAFile+" contains no certificate in PEM format", "give another --ca-file")}
		}
	}
	e := &examination{
		Config: conf, Options: o, roots: roots, opened: make(chan *installation.Installation, 1),
	}
	first := []finding.Check{
		{Name: "configuration", Do: e.configuration},
		{Name: "files", Do: func(ctx context.Context) []finding.Finding {
			return append(e.files().Check(ctx), e.databaseFiles()...)
		}},
	}
	var list []finding.Finding
	if o, _ := runas.OwnerOf(e.Data); o != nil {
		// These checks need root, and opening the store changes the user of the process.
		list, first = finding.Run(ctx, filesTime, first), nil
	}
	list = append(list, finding.Run(ctx, openTime, append(first, finding.Check{Name: "store", Do: e.open}))...)
	var in *installation.Installation
	select {
	case in = <-e.opened:
		defer in.Close() // nothing was written
	default: // it cannot be opened, or hangs
	}
	return append(list, finding.Run(ctx, checkTime, e.checks(in))...)
}

// examination is the state of a call of Examine that its checks share.
type examination struct {
	config.Config
	Options
	roots   *x509.CertPool
	opened  chan *installation.Installation // receives the result of open if it succeeds
	tenants []tenant.Tenant                 // with their public URLs; set before the send on opened
	newer   bool                            // a newer program has updated the schema of the store
}

// checks returns the checks that run after the attempt to open the store. in is nil if it was not opened.
func (e *examination) checks(in *installation.Installation) []finding.Check {
	list := []finding.Check{{Name: "disk", Do: e.disks}, {Name: "mail", Do: e.pickup}, {Name: "relay", Do: e.relay}}
	if in == nil {
		return append(list, finding.Check{Name: "server", Do: func(ctx context.Context) []finding.Finding {
			return e.server(ctx, nil)
		}})
	}
	add := func(name string, do func(context.Context, *installation.Installation) []finding.Finding) {
		list = append(list, finding.Check{Name: name, Do: func(ctx context.Context) []finding.Finding {
			return do(ctx, in)
		}})
	}
	add("store", e.schema)
	add("keys", e.keys)
	add("clock", e.clock)
	add("hooks", e.hooks)
	add("export", e.export)
	add("export", e.htdigest)
	add("versions", e.versions)
	add("signups", e.signups)
	add("certificates", e.certificates)
	for _, t := range e.tenants {
		if tenant.Loopback(t.Host) {
			continue
		}
		list = append(list, finding.Check{Name: "dns", Do: func(ctx context.Context) []finding.Finding {
			return finding.Address(ctx, e.DNS, t.Host)
		}})
		add("sender", func(ctx context.Context, in *installation.Installation) []finding.Finding {
			return e.sender(ctx, in, t)
		})
	}
	add("server", e.server)
	return list
}

// failed returns a finding about a check that could not be made, or nil if err is nil.
func failed(check string, err error) []finding.Finding {
	if err == nil {
		return nil
	}
	return []finding.Finding{finding.New(finding.Fault, check, finding.AboutDoctor,
		"this cannot be checked: "+err.Error(), "repair what the error says, and run this command again")}
}

// configuration reports invalid templates, and an operators' listener that other machines can reach.
func (e *examination) configuration(context.Context) (list []finding.Finding) {
	if _, err := adapter.Templates(e.Mail.TemplatesDir); err != nil {
		list = append(list, finding.New(finding.Fault, "configuration", finding.AboutMail, err.Error(),
			"correct the templates, or remove mail.templates_dir; until then, no server starts"))
	}
	if e.Ops.Remote() {
		const next = "let ops.listen be a loopback address or one of an internal network, and block it in the firewall"
		switch {
		case e.Ops.TLSCert == "":
			list = append(list, finding.New(finding.Warning, "configuration", finding.AboutHealth,
				"other machines can reach the operators' listener at "+e.Ops.Listen+
					", and nothing there is encrypted, not even password hashes",
				next+", or set ops.tls_cert and ops.tls_key"))
		case e.Ops.TLSClientCA == "":
			list = append(list, finding.New(finding.Note, "configuration", finding.AboutHealth,
				"other machines can reach the operators' listener at "+e.Ops.Listen, next+", or set ops.tls_client_ca"))
		}
	}
	return list
}

// files returns the files whose owners and modes package finding checks.
func (e *examination) files() finding.Files {
	dir, keys := datadir.Dir(e.Data), installation.KeySources(e.Keys)
	own := []string{
		dir.NodeFile(), string(dir.TrailFile()), filepath.Join(e.Data, "serve.lock"), e.Keys.Dir, e.Mail.PickupDir,
		filepath.Join(filepath.Dir(e.Mail.PickupDir), "badmail"),
	}
	if e.Database == "" {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			own = append(own, dir.Database()+suffix)
		}
	}
	f := finding.Files{
		Data: e.Data, Own: own, Read: map[string]string{}, Private: secretFiles(e.Config, e.Environ),
	}
	f.NoLinks = []string{filepath.Join(e.Data, "directory")}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		f.NoLinks = append(f.NoLinks, filepath.Join(e.Data, "directory", "directory.db"+suffix))
	}
	if hasPassword(e.Configuration, e.Config) {
		f.Private[e.Configuration] = "the password of the database"
	}
	f.Secret = []string{keys.Seal.Path, keys.Sign.Path, keys.TURN.Path}
	read := func(name, path string) {
		if path != "" {
			f.Read[name] = path
		}
	}
	read("the configuration", e.Configuration)
	read("mail.templates_dir", e.Mail.TemplatesDir)
	read("mail.relay_password_file", e.Mail.RelayPasswordFile)
	read("mail.relay_ca_file", e.Mail.RelayCAFile)
	read("http.security_txt", e.HTTP.SecurityTxt)
	read("trace.header_file", e.Trace.HeaderFile)
	read("ops.tls_cert", e.Ops.TLSCert)
	read("ops.tls_key", e.Ops.TLSKey)
	read("ops.tls_client_ca", e.Ops.TLSClientCA)
	read("tls.acme_ca_file", e.TLS.CAFile)
	for i := range e.TLS.Cert {
		read(fmt.Sprintf("tls.cert, number %d", i+1), string(e.TLS.Cert[i]))
		read(fmt.Sprintf("tls.key, number %d", i+1), string(e.TLS.Key[i]))
	}
	return f
}
