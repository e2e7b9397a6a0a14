package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/certificate"
	"dialtone/internal/http/acme"
	"dialtone/internal/http/ops"
	httpserver "dialtone/internal/http/server"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/http/web"
	"dialtone/internal/tenant"
)

// openTLS reads the certificates of the listeners. It fails if a listener that uses TLS would have none.
func (s *server) openTLS(ctx context.Context) (err error) {
	if s.opsFiles, err = openFiles(adapter.OpsPairs(s.Ops), s.Ops.TLSClientCA); err != nil {
		return fmt.Errorf("ops.tls_cert: %w", err)
	}
	if s.files, err = openFiles(adapter.PublicPairs(s.TLS), ""); err != nil {
		return fmt.Errorf("tls.cert: %w", err)
	}
	if !s.TLS.ACME {
		return nil
	}
	roots, err := adapter.Authorities(s.TLS.CAFile)
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

// publicTLS returns the TLS settings of the public listener, or nil if it does not use TLS.
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

// opsTLS returns the TLS settings of the operators' listener, or nil if it does not use TLS.
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

// orderCertificates orders certificates by ACME until ctx ends.
func (s *server) orderCertificates(ctx context.Context) {
	s.acme.Run(ctx, func(err error) { s.reportCertificates(ctx, err) })
}

func (s *server) reportCertificates(ctx context.Context, err error) {
	if err == nil {
		s.tlsErr.Store(nil)
	} else {
		s.tlsErr.Store(&err)
	}
	s.outages.certificates.Report(ctx, err, "retry_in", FlushInterval.String())
}

// tlsReady warns about certificates that are missing, or that should have been renewed.
func (s *server) tlsReady(context.Context) error {
	var faults []string
	if err := s.tlsErr.Load(); err != nil {
		why := strings.ReplaceAll((*err).Error(), "\n", "; ")
		faults = append(faults, "the certificates cannot be read again, and the previous ones are in use: "+why)
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

// expiry returns when the certificate of a tenant at the public listener expires, and its total period of validity.
func (s *server) expiry(host string) (expires time.Time, life time.Duration, ok bool) {
	switch {
	case s.files != nil:
		return s.files.Expiry(host)
	case s.acme != nil:
		return s.acme.Expiry(host)
	}
	return time.Time{}, 0, false
}

// orderFailure tells why the last order of a certificate by ACME failed, if it did.
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
