package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
)

// check applies the rules about more than one key. A rule is skipped if one of its keys has a
// fault.
func (l *loader) check() {
	c := &l.config
	if l.sound("dev", "listen") && c.Dev && !isLoopback(c.Listen) {
		l.fault(l.set["dev"], "dev", "expected false unless listen is a loopback address, not true",
			fmt.Sprintf("listen is %s, from %s", quote(c.Listen), l.set["listen"]))
	}
	if l.sound("ops.listen", "ops.allow_cleartext", "ops.tls_cert") && !c.Ops.AllowCleartext && c.Ops.Remote() &&
		c.Ops.TLSCert == "" {
		l.fault(l.set["ops.listen"], "ops.listen", "expected a loopback address, not "+quote(c.Ops.Listen)+
			", since look-ups return password hashes and the connection is not encrypted",
			"set ops.tls_cert and ops.tls_key, or ops.allow_cleartext = true if nobody else can listen")
	}
	l.checkTLS()
	if l.sound("data", "mail.pickup_dir") && filepath.Clean(c.Mail.PickupDir) == filepath.Clean(c.Data) {
		// A mail server that reads the pickup directory would send the database, or delete it.
		l.fault(l.set["mail.pickup_dir"], "mail.pickup_dir",
			"expected a directory other than data, not "+quote(c.Mail.PickupDir), "")
	}
	files := map[string]bool{}
	for _, h := range c.Export.Htdigest {
		if files[h.File] {
			l.fault(l.set["directory.htdigest"], "directory.htdigest",
				"the file "+quote(h.File)+" is listed twice", "give each tenant a file of its own")
		}
		files[h.File] = true
	}
	if l.sound("trace.endpoint", "trace.header_file") && c.Trace.HeaderFile != "" {
		if u, err := url.Parse(c.Trace.Endpoint); err == nil && u.Scheme == "http" && !isLoopbackHost(u.Hostname()) {
			l.fault(l.set["trace.header_file"], "trace.header_file",
				"expected nothing, since the connection to trace.endpoint is not encrypted", "use https://")
		}
	}
	if !l.sound("mail.relay", "mail.relay_password", "mail.relay_password_file") {
		return
	}
	m := c.Mail
	switch {
	case m.Relay.Parts().User != "" && m.RelayPassword == Secret{} && m.RelayPasswordFile == "":
		l.fault(l.set["mail.relay"], "mail.relay", "has a user, and there is no password",
			"set DIALTONE_MAIL_RELAY_PASSWORD or mail.relay_password_file")
	case m.RelayPassword != Secret{} && m.RelayPasswordFile != "":
		l.fault(l.set["mail.relay_password_file"], "mail.relay_password_file",
			"is set, and so is DIALTONE_MAIL_RELAY_PASSWORD", "keep one of them")
	}
}

// checkTLS applies the rules about the keys of TLS.
func (l *loader) checkTLS() {
	c := &l.config
	if l.sound("tls.cert", "tls.key") && len(c.TLS.Cert) != len(c.TLS.Key) {
		key := "tls.cert"
		if len(c.TLS.Key) > len(c.TLS.Cert) {
			key = "tls.key"
		}
		l.fault(l.set[key], key, fmt.Sprintf("expected as many files in tls.cert as in tls.key, not %d and %d",
			len(c.TLS.Cert), len(c.TLS.Key)), "each certificate needs its key, in the same order")
	}
	if l.sound("tls.cert", "tls.acme") && c.TLS.ACME && len(c.TLS.Cert) > 0 {
		l.fault(l.set["tls.acme"], "tls.acme", "expected false, since tls.cert names certificates", "keep one of them")
	}
	if l.sound("tls.redirect_listen", "tls.cert", "tls.acme") && c.TLS.RedirectListen != "" && !c.TLS.On() {
		l.fault(l.set["tls.redirect_listen"], "tls.redirect_listen",
			"expected nothing, since the public listener does not speak TLS", "set tls.cert and tls.key, or tls.acme")
	}
	for _, other := range []struct{ key, at string }{{"listen", c.Listen}, {"ops.listen", c.Ops.Listen}} {
		if l.sound("tls.redirect_listen", other.key) && sameAddress(c.TLS.RedirectListen, other.at) {
			l.fault(l.set["tls.redirect_listen"], "tls.redirect_listen", "expected another address than "+
				quote(other.at)+", which "+other.key+" has", "choose another port, usually 80")
		}
	}
	if l.sound("dev", "tls.cert", "tls.acme") && c.Dev && c.TLS.On() {
		l.fault(l.set["dev"], "dev", "expected false, since the public listener speaks TLS",
			"leave out the keys of [tls]")
	}
	if l.sound("ops.tls_cert", "ops.tls_key") && (c.Ops.TLSCert == "") != (c.Ops.TLSKey == "") {
		key, other := "ops.tls_cert", "ops.tls_key"
		if c.Ops.TLSCert == "" {
			key, other = other, key
		}
		l.fault(l.set[key], key, "is set, and "+other+" is not", "a certificate needs its key")
	}
	if l.sound("ops.tls_cert", "ops.tls_client_ca") && c.Ops.TLSClientCA != "" && c.Ops.TLSCert == "" {
		l.fault(l.set["ops.tls_client_ca"], "ops.tls_client_ca",
			"expected nothing, since the listener does not speak TLS", "set ops.tls_cert and ops.tls_key")
	}
}

// sound reports whether the keys are known and have no fault of their own.
func (l *loader) sound(names ...string) bool {
	return !l.unread &&
		!slices.ContainsFunc(l.faults, func(f Fault) bool { return slices.Contains(names, f.Key) })
}

// sameAddress reports whether two listeners could not both listen on their addresses.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && portA != "0" &&
		(hostA == hostB || isUnspecified(hostA) || isUnspecified(hostB))
}

func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// isLoopback reports whether only this machine can reach the address.
func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && isLoopbackHost(host)
}

func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
