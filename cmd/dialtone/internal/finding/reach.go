package finding

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"dialtone/internal/captcha"
	"dialtone/internal/certificate"
	"dialtone/internal/tenant"
)

// lookupTime and fetchTime limit a DNS look-up and an HTTP request.
const (
	lookupTime = 3 * time.Second
	fetchTime  = 5 * time.Second
)

// Resolver looks up addresses. A *net.Resolver is a Resolver.
type Resolver interface {
	LookupHost(ctx context.Context, name string) ([]string, error)
}

// Address returns a finding if the DNS has no address for the host of a tenant.
func Address(ctx context.Context, dns Resolver, host string) []Finding {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	_, err := dns.LookupHost(ctx, host)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return []Finding{New(Fault, "dns", AboutTenants,
			"the DNS has no address for "+host+", so nobody can reach it",
			"add an A record, and an AAAA record if the server has an IPv6 address, to the zone of "+host)}
	}
	return []Finding{New(Warning, "dns", AboutTenants,
		fmt.Sprintf("the address of %s cannot be looked up: %s", host, cause(err)),
		"repair the DNS resolver of this machine (/etc/resolv.conf), or give another one with --resolver")}
}

// Public asks for a captcha question at the public URL of a tenant, as the signup page does, and
// checks that a server with our keys has made it. A question that is not answered leaves no trace.
type Public struct {
	Tenant tenant.Tenant // with its public URL
	// Issuer recognizes a question of our own server. It is nil if the keys are not known.
	Issuer *captcha.Issuer
	// Roots are certificate authorities besides those of the system, or nil.
	Roots *x509.CertPool
	// DNS looks the host up. If it is nil, the system's resolver is used.
	DNS *net.Resolver
	Now func() time.Time
}

// Check returns what is wrong.
func (p Public) Check(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	url := p.Tenant.PublicURL
	level := Fault
	if tenant.Loopback(p.Tenant.Host) { // for trials
		level = Warning
	}
	see := AboutStart // most faults are in a proxy
	found := func(level Level, cause, next string) []Finding {
		return []Finding{New(level, "public url", see, cause, next)}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/captcha.ashx", nil)
	if err != nil {
		see = AboutTenants
		return found(Fault, fmt.Sprintf("the public URL %q of %s is wrong: %v", url, p.Tenant.Host, err),
			"correct it with: dialtone tenant set "+p.Tenant.Host+" --public-url URL")
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.Roots},
			DialContext: (&net.Dialer{Resolver: p.DNS}).DialContext,
		},
		// A redirect elsewhere would be followed by browsers, but not by programs that use the API.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(request)
	if err != nil {
		var next string
		next, see = p.advice(err)
		return found(level, fmt.Sprintf("%s cannot be reached from this machine: %v", url, cause(err)), next)
	}
	defer answer.Body.Close()
	var list []Finding
	if answer.TLS != nil && len(answer.TLS.PeerCertificates) > 0 {
		leaf := answer.TLS.PeerCertificates[0]
		if certificate.ExpiresSoon(leaf.NotAfter, leaf.NotAfter.Sub(leaf.NotBefore), p.Now()) {
			expires := leaf.NotAfter.UTC().Format(time.RFC3339)
			list = []Finding{New(Warning, "public url", AboutExpiry,
				fmt.Sprintf("the certificate at %s expires at %s", url, expires),
				"renew it, and find out why it was not renewed by itself")}
		}
	}
	var question struct{ Question, Token string }
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	switch {
	case err != nil:
		return append(list, found(level, fmt.Sprintf("%s ended its answer early: %v", url, err),
			"look at the log of the proxy and of the server")...)
	case answer.StatusCode == http.StatusMisdirectedRequest:
		return append(list, found(Fault,
			fmt.Sprintf("the server at %s does not know the host %s", url, p.Tenant.Host),
			"make the proxy pass on the Host header, or correct the public URL: dialtone tenant set "+p.Tenant.Host+
				" --public-url URL")...)
	case answer.StatusCode == http.StatusTooManyRequests:
		return append(list, found(Note, url+" has received too many requests from this machine", "try again later")...)
	case answer.StatusCode >= 300 && answer.StatusCode < 400:
		return append(list, found(level,
			fmt.Sprintf("%s redirects to %s", url, answer.Header.Get("Location")),
			"correct the proxy, or set the public URL to where the platform is: dialtone tenant set "+
				p.Tenant.Host+" --public-url URL")...)
	case answer.StatusCode == http.StatusBadGateway, answer.StatusCode == http.StatusServiceUnavailable,
		answer.StatusCode == http.StatusGatewayTimeout:
		return append(list, found(level, fmt.Sprintf("the proxy at %s does not reach the server (status %d)",
			url, answer.StatusCode),
			"start the server, and compare listen with the address in the proxy's configuration")...)
	case answer.StatusCode != http.StatusOK || json.Unmarshal(text, &question) != nil || question.Token == "":
		return append(list, found(level, fmt.Sprintf("the server that answers at %s is not Dialtone (status %d)", url,
			answer.StatusCode), "correct the DNS, the proxy, or the public URL: dialtone tenant set "+p.Tenant.Host+
			" --public-url URL")...)
	}
	if p.Issuer == nil {
		return list
	}
	if _, ours := p.Issuer.Nonce(p.Tenant.ID, question.Token); !ours {
		return append(list, found(level,
			"a server of another installation, or with another sign.key, answers at "+url,
			"compare data and keys.dir with those of the running server, and the DNS and the proxy with its "+
				"address")...)
	}
	return list
}

// cause returns the text of an error without the request, which the finding names.
func cause(err error) string {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		failed := *e
		failed.Server = "" // with --resolver, it is not the one that was asked
		return failed.Error()
	}
	for {
		inner := errors.Unwrap(err)
		if _, tls := errors.AsType[*tls.CertificateVerificationError](err); inner == nil || tls {
			return strings.TrimPrefix(err.Error(), "Get ")
		}
		if _, ok := err.(*net.OpError); ok {
			return err.Error()
		}
		err = inner
	}
}

// advice says what to do about an error of a request, and where to read more.
func (p Public) advice(err error) (next string, see Section) {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "give the proxy, or tls.cert, a valid certificate for " + p.Tenant.Host +
				"; if its authority is your own, give this command the authority's certificate with --ca-file",
			AboutCertificates
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return "add the name to the DNS", AboutTenants
	}
	return "start the server and the proxy; if both run, look at the firewall, and whether this machine may reach " +
		"its own public address, or correct the public URL: dialtone tenant set " + p.Tenant.Host +
		" --public-url URL", AboutStart
}
