package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/certificate"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/doctor"
	"dialtone/internal/http/acme"
	"dialtone/internal/http/ops"
	httpserver "dialtone/internal/http/server"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/http/web"
	"dialtone/internal/store/migrations"
	"dialtone/internal/tenant"
)

// openTLS reads the certificates of the listeners. A listener that is to speak TLS does not start without.
func (s *server) openTLS(ctx context.Context) (err error) {
	if s.opsFiles, err = openFiles(installation.OpsPairs(s.Ops), s.Ops.TLSClientCA); err != nil {
		return fmt.Errorf("ops.tls_cert: %w", err)
	}
	if s.files, err = openFiles(installation.PublicPairs(s.TLS), ""); err != nil {
		return fmt.Errorf("tls.cert: %w", err)
	}
	if !s.TLS.ACME {
		return nil
	}
	roots, err := installation.Authorities(s.TLS.CAFile)
	if err != nil {
		return fmt.Errorf("tls.acme_ca_file: %w: %w", tlscert.ErrUnusable, err)
	}
	s.acme = acme.New(acme.Deps{
		Store:     s.Store,
		Tenants:   s.tenants,
		SealRing:  s.Seal,
		Authority: s.TLS.Directory,
		Roots:     roots,
		Email:     s.TLS.Email,
		HTTP:      s.TLS.RedirectListen != "",
		Log:       s.log,
		Now:       time.Now,
	})
	s.reportCertificates(ctx, s.acme.Refresh(ctx))
	return nil
}

func openFiles(pairs []tlscert.Pair, clientCA string) (*tlscert.Files, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	return tlscert.Load(pairs, clientCA)
}

// publicTLS returns the settings of the public listener, or nil if it does not speak TLS.
func (s *server) publicTLS() *tls.Config {
	switch {
	case s.files != nil:
		return s.files.Config()
	case s.acme != nil:
		c := tlscert.Config(s.acme.Get)
		c.NextProtos = append(c.NextProtos, acme.ALPN)
		return c
	}
	return nil
}

// opsTLS returns the settings of the operators' listener, or nil if it does not speak TLS.
func (s *server) opsTLS() *tls.Config {
	if s.opsFiles == nil {
		return nil
	}
	return s.opsFiles.Config()
}

// refreshCertificates reads the files with certificates again.
func (s *server) refreshCertificates(ctx context.Context) {
	var err error
	for _, f := range []*tlscert.Files{s.files, s.opsFiles} {
		if f != nil {
			err = errors.Join(err, f.Refresh())
		}
	}
	s.reportCertificates(ctx, err)
}

// orderCertificates gets certificates by ACME until ctx ends.
func (s *server) orderCertificates(ctx context.Context) {
	s.acme.Run(ctx, func(err error) { s.reportCertificates(ctx, err) })
}

func (s *server) reportCertificates(ctx context.Context, err error) {
	if err == nil {
		s.tlsErr.Store(nil)
	} else {
		s.tlsErr.Store(&err)
	}
	s.outages.certificates.Report(ctx, err, "retry_in", flushInterval.String())
}

// tlsReady warns about certificates that are missing, or that should have been renewed.
func (s *server) tlsReady(context.Context) error {
	var faults []string
	if err := s.tlsErr.Load(); err != nil {
		why := strings.ReplaceAll((*err).Error(), "\n", "; ")
		faults = append(faults, "the certificates of before are in use: "+why)
	}
	now := time.Now()
	add := func(of string, expires time.Time, life time.Duration, why string) {
		if !certificate.ExpiresSoon(expires, life, now) {
			return
		}
		text := fmt.Sprintf("the certificate of %s expires at %s", of, expires.UTC().Format(time.RFC3339))
		if !now.Before(expires) {
			text = fmt.Sprintf("the certificate of %s expired at %s", of, expires.UTC().Format(time.RFC3339))
		}
		faults = append(faults, text+why)
	}
	tenants := s.tenants.All()
	slices.SortFunc(tenants, func(a, b *tenant.Tenant) int { return strings.Compare(a.Host, b.Host) })
	for _, t := range tenants {
		expires, life, ok := s.expiry(t.Host)
		why, failed := s.orderFailure(t)
		switch {
		case ok:
			add(t.Host, expires, life, why)
		case s.files != nil && !tenant.Loopback(t.Host):
			faults = append(faults, "no certificate in tls.cert is for "+t.Host)
		case failed:
			faults = append(faults, "there is no certificate for "+t.Host+why)
		}
	}
	if s.opsFiles != nil {
		expires, life, _ := s.opsFiles.Expiry("")
		add("ops.listen", expires, life, "")
	}
	if faults == nil {
		return nil
	}
	return ops.Warning(strings.Join(faults, "; "))
}

// expiry returns when the certificate of a tenant at the public listener expires, and how long it is valid in all.
func (s *server) expiry(host string) (expires time.Time, life time.Duration, ok bool) {
	switch {
	case s.files != nil:
		return s.files.Expiry(host)
	case s.acme != nil:
		return s.acme.Expiry(host)
	}
	return time.Time{}, 0, false
}

// orderFailure says why the last order of a certificate by ACME failed, if it did.
func (s *server) orderFailure(t *tenant.Tenant) (why string, failed bool) {
	if s.acme == nil {
		return "", false
	}
	state := s.acme.State(t.ID)
	if state.Failures == 0 {
		return "", false
	}
	return fmt.Sprintf(" (%s failed, the last: %s)", terminal.Counted(state.Failures, "order"), state.Failure), true
}

// redirectListener listens for requests without TLS, or returns nil.
func (s *server) redirectListener() (net.Listener, error) {
	if s.TLS.RedirectListen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", s.TLS.RedirectListen)
	if err != nil {
		return nil, fmt.Errorf("tls.redirect_listen: %w; choose another address with --tls-redirect-listen", err)
	}
	return l, nil
}

// serveRedirect returns a function that serves a listener without TLS until its ctx is done.
func (s *server) serveRedirect(l net.Listener) func(context.Context) {
	challenged := func(http.ResponseWriter, *http.Request) bool { return false }
	if s.acme != nil {
		challenged = s.acme.Answer
	}
	handler := web.Redirect(s.tenants, challenged)
	limits := s.limits()
	limits.Counts = &s.redirectConnections
	return func(ctx context.Context) {
		err := httpserver.Serve(ctx, l, handler, limits, s.log)
		if err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Error("redirect listener failed", "err", err)
		}
	}
}

// tlsMetrics returns metrics of the certificates.
func (s *server) tlsMetrics() prometheus.Collector {
	return ops.NewCollector([]ops.Metric{
		{
			Name:   "dialtone_tls_certificate_expiry_timestamp_seconds",
			Help:   "When the certificate of a listener expires, for each tenant at the public one; 0 for none.",
			Labels: []string{"listener", "tenant"},
		},
		{
			Name:   "dialtone_tls_certificate_order_failures",
			Help:   "Orders of a certificate by ACME that failed since the last success.",
			Labels: []string{"tenant"},
		},
	}, func(_ context.Context, to *ops.Values) error {
		for _, t := range s.tenants.All() {
			if s.acme != nil && !certificate.Eligible(t.Host) || s.files != nil && tenant.Loopback(t.Host) {
				continue
			}
			if s.TLS.On() {
				expires, _, ok := s.expiry(t.Host)
				to.Set(0, seconds(expires, ok), "public", t.Host)
			}
			if s.acme != nil {
				to.Set(1, float64(s.acme.State(t.ID).Failures), t.Host)
			}
		}
		if s.opsFiles != nil {
			expires, _, ok := s.opsFiles.Expiry("")
			to.Set(0, seconds(expires, ok), "ops", "")
		}
		return nil
	})
}

func seconds(t time.Time, ok bool) float64 {
	if !ok {
		return 0
	}
	return float64(t.Unix())
}

// checkCertificates reports all faults of the files with certificates.
func (p *program) checkCertificates(c config.Config) error {
	var hosts []string
	if len(c.TLS.Cert) > 0 {
		var err error
		if hosts, err = p.hostsOf(c); err != nil {
			return err
		}
	}
	faults := certificateFaults(c, hosts)
	if len(faults) == 0 {
		return nil
	}
	for _, f := range faults[:len(faults)-1] {
		fmt.Fprintln(terminal.To(p.stderr), "dialtone:", f)
	}
	return fmt.Errorf("%w: %s", tlscert.ErrUnusable, faults[len(faults)-1])
}

// secretFiles returns the files with secrets of an installation, and what is in them: without keys, whose modes are
// checked where they are read.
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

// hasPassword reports whether the configuration file has the password of the database.
func (p *program) hasPassword(c config.Config) bool {
	if p.configFile() == "" || !urlPassword.MatchString(c.Database) {
		return false
	}
	text, err := runas.ReadNamed(p.configFile())
	return err == nil && bytes.Contains(text, []byte(c.Database))
}

// notePublic notes the files with secrets that every user can read.
func (p *program) notePublic(c config.Config) {
	files := secretFiles(c, p.environ)
	if p.hasPassword(c) {
		files[p.configFile()] = "the password of the database"
	}
	for _, f := range doctor.Private("files", files) {
		fmt.Fprintf(terminal.To(p.stderr), "note: %s; %s\n", terminal.OneLine(f.Cause), terminal.OneLine(f.Next))
	}
}

// noteMissing notes the configured files that are not there. A server starts without those that it reads only when it
// needs them, such as the password for the relay.
func (p *program) noteMissing(c config.Config) {
	for _, f := range append(installation.ConfiguredFiles(c), p.environmentFiles(c)...) {
		if _, err := os.Stat(f.Path); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(terminal.To(p.stderr), "note: %s: there is no %s; make it, or correct the path: a server "+
				"starts without the file and fails when it needs it\n", f.Key, f.Path)
		}
	}
}

// noteUnreadable notes the configured files that the owner of the data directory cannot read. Root can read all, so
// that nothing else would tell.
func (p *program) noteUnreadable(c config.Config) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner, err := datadir.Dir(c.Data).Owner()
	if err != nil || owner == nil || owner.Root() {
		return err
	}
	for _, f := range append(installation.ConfiguredFiles(c), p.environmentFiles(c)...) {
		if at := owner.Denied(f.Path); at != "" {
			fmt.Fprintf(terminal.To(p.stderr), "note: %s: the user %s, who owns %s, cannot read %s: the owner and "+
				"mode of %s do not allow it, and a server that runs as this user cannot use it\n",
				f.Key, owner, c.Data, f.Path, at)
		}
	}
	return nil
}

// pickupFault returns why the owner of the data directory can neither use nor make the pickup directory, and what to
// do, or "".
func (p *program) pickupFault(c config.Config) (text, next string) {
	owner, _, err := installation.DataOwner(c.Data)
	if err != nil || owner == nil {
		return "", ""
	}
	at := datadir.NewOwner(owner.UID, owner.GID).CannotUse(c.Mail.PickupDir)
	if at == "" {
		return "", ""
	}
	what := "use"
	if _, err := os.Stat(c.Mail.PickupDir); errors.Is(err, fs.ErrNotExist) {
		what = "make"
	}
	return fmt.Sprintf("the user %s of the server cannot %s the pickup directory %s (mail.pickup_dir): the owner and "+
			"mode of %s do not allow it", owner.Name, what, c.Mail.PickupDir, at),
		installation.MakePickup(*owner, c.Mail.PickupDir)
}

// certificateFaults returns what is wrong with the certificates in files, for the hosts of the tenants.
func certificateFaults(c config.Config, hosts []string) []string {
	var faults []string
	_ = runas.AsCaller(func() error {
		faults = readCertificateFaults(c, hosts)
		return nil
	})
	return faults
}

func readCertificateFaults(c config.Config, hosts []string) []string {
	faults := tlscert.Check("ops.tls_cert", "ops.tls_key", installation.OpsPairs(c.Ops), nil, time.Now())
	if len(c.TLS.Cert) > 0 {
		faults = append(faults, tlscert.Check("tls.cert", "tls.key", installation.PublicPairs(c.TLS), hosts,
			time.Now())...)
	}
	for _, f := range []installation.ConfiguredFile{
		{Key: "ops.tls_client_ca", Path: c.Ops.TLSClientCA}, {Key: "tls.acme_ca_file", Path: c.TLS.CAFile},
	} {
		if _, err := installation.Authorities(f.Path); err != nil {
			faults = append(faults, f.Key+": "+err.Error())
		}
	}
	return faults
}

// hostsOf returns the hosts of the tenants that people reach from other machines. There are none before the first
// start of a server, and none are known while the store is that of the previous version, whose configuration is
// checked before an update.
func (p *program) hostsOf(c config.Config) (hosts []string, err error) {
	in, err := installation.Open(p.ctx, c, installation.Options{})
	if errors.Is(err, installation.ErrNoStore) {
		return nil, nil
	} else if errors.Is(err, migrations.ErrOlder) {
		fmt.Fprintln(terminal.To(p.stderr), "note: tls.cert was not compared with the hosts of the tenants:", err)
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("the hosts of the tenants cannot be read: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	list, _, err := in.Store.Tenants(p.ctx)
	for _, t := range list {
		if !tenant.Loopback(t.Host) {
			hosts = append(hosts, t.Host)
		}
	}
	return hosts, err
}
