package setup

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/maildns"
	"dialtone/internal/mailmsg"
	"dialtone/internal/shellword"
	"dialtone/internal/tenant"
)

// printSteps prints the DNS records and what to do next.
func (s *setup) printSteps(in *installation.Installation, dir string) error {
	printf := func(format string, args ...any) { fmt.Fprintf(terminal.To(s.Stdout), format+"\n", args...) }
	if why := notInDNS(s.tenant.Host); why != "" {
		printf("\nNo DNS records: %s %s.", s.tenant.Host, why)
	} else if err := s.printRecords(in, printf); err != nil {
		return err
	}
	if _, port, _ := net.SplitHostPort(in.Listen); in.TLS.ACME && port != "443" {
		printf("\nThe certificate authority connects to port 443 of the public address. Forward it to %s.", in.Listen)
	}
	s.printFiles(in, dir, printf)
	s.printNext(in, dir, printf)
	return nil
}

// notInDNS tells why a host cannot have public DNS records, or returns "".
func notInDNS(host string) string {
	_, err := netip.ParseAddr(host)
	switch {
	case err == nil:
		return "is an address"
	case tenant.Loopback(host):
		return "is a name of this machine alone"
	case !strings.Contains(host, "."):
		return "is a single label, which is not in the public DNS"
	}
	return ""
}

func (s *setup) printRecords(in *installation.Installation, printf func(string, ...any)) error {
	host := s.tenant.Host
	printf("\nDNS records to add:")
	for _, line := range addressRecords(host) {
		printf("  %s", line)
	}
	sips := []string{
		fmt.Sprintf("  _sips._tcp.%[1]s. IN SRV 10 0 5061 %[1]s.", host),
		fmt.Sprintf(`  %[1]s. IN NAPTR 10 0 "s" "SIPS+D2T" "" _sips._tcp.%[1]s.`, host),
	}
	if in.TLS.ACME {
		printf("%s", strings.Join(sips, "\n"))
	}
	public, err := dkim.NewKeys(in.Store, in.Seal).List(s.ctx, s.tenant.ID)
	if err != nil {
		return err
	}
	var keys []maildns.Key
	for _, k := range public {
		keys = append(keys, maildns.Key{Selector: k.Selector, Record: k.Record})
	}
	relay, _, _ := net.SplitHostPort(in.Mail.Relay.Parts().Address)
	for _, f := range maildns.Check(s.ctx, emptyDNS{}, mailmsg.Domain(s.tenant.Sender()), relay, keys) {
		if f.Add != "" {
			printf("  %s", maildns.ZoneLine(f.Name, f.Add))
		}
	}
	if len(keys) == 0 && in.Mail.Relay != "" {
		printf("  for DKIM, unless the relay signs: dialtone mail dkim add %s --selector dialtone", host)
	}
	if !in.TLS.ACME {
		printf("\nkamailio.cfg is for phones on this machine only. Once it has a certificate and SIPS, add to the DNS:")
		printf("%s", strings.Join(sips, "\n"))
	}
	return nil
}

func (s *setup) printFiles(in *installation.Installation, dir string, printf func(string, ...any)) {
	printf("\nExamples in %s; each begins with an explanation:", dir)
	if !in.TLS.On() {
		printf("  nginx.conf         for /etc/nginx/sites-enabled/")
	}
	printf("  kamailio.cfg       with directory.cfg, which contains a token: only Kamailio may read it")
	if in.TLS.ACME {
		printf("  tls.cfg            next to kamailio.cfg, for phones that use TLS")
		printf("  dialtone-certificate.service, .timer  for /etc/systemd/system/: Kamailio gets the certificate")
	}
	if !packagedUnit(in.Config, s.path, s.user) {
		printf("  dialtone.service   for /etc/systemd/system/, also if a package has installed another one")
		return
	}
	printf("  dialtone.service   for /etc/systemd/system/, unless a package has installed it")
	if lowPorts(in.Config) {
		printf("  low-ports.conf     for /etc/systemd/system/dialtone.service.d/, without which the server of a " +
			"package cannot start")
	}
}

func (s *setup) printNext(in *installation.Installation, dir string, printf func(string, ...any)) {
	printf("\nNext:")
	config, examples := shellword.Path(s.path), shellword.Path(dir)
	if s.user.CheckReadable(s.path) == nil { // nothing to do
	} else if link := finding.Link("configuration", s.path); link != nil {
		printf("  Let the server read %s: %s", s.path, link.Cause)
	} else {
		printf("  chgrp %s %s; chmod 640 %[2]s   # the server could not read it", shellword.Quote(s.user.Group), config)
	}
	if in.Database != "" {
		var names []string
		for _, entry := range s.Environ {
			if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "PG") {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			printf("  Give the server these variables, too, as far as the database needs them: %s",
				strings.Join(names, ", "))
		}
		_ = runas.AsCaller(func() error {
			s.printVariables(in.Config, printf)
			return nil
		})
	}
	units := []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	if packagedUnit(in.Config, s.path, s.user) &&
		slices.ContainsFunc(units, func(at string) bool { return existsFile(at + "/dialtone.service") }) {
		if lowPorts(in.Config) {
			printf("  install -D -m 644 -t /etc/systemd/system/dialtone.service.d %s/low-ports.conf", examples)
		}
	} else {
		printf("  install -m 644 -t /etc/systemd/system %s/dialtone.service", examples)
	}
	if !in.TLS.On() {
		printf("  install -m 644 %s/nginx.conf /etc/nginx/sites-enabled/dialtone.conf   # once there is a certificate",
			dir)
	}
	printf("  systemctl daemon-reload")
	printf("  systemctl enable --now dialtone")
	printf("  dialtone health --config %s", config)
	printf("  dialtone doctor --config %s", config)
}

// existsFile reports whether there is a file.
func existsFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// emptyDNS is a resolver without records, so that maildns.Check returns all records to add.
type emptyDNS struct{}

// LookupTXT implements maildns.Resolver.
func (emptyDNS) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// addressRecords returns records for the public addresses of this machine, or records to complete if it has none.
func addressRecords(host string) (lines []string) {
	for _, a := range publicAddresses() {
		kind := "A"
		if a.Is6() {
			kind = "AAAA"
		}
		lines = append(lines, fmt.Sprintf("%s. IN %s %s", host, kind, a))
	}
	if lines == nil {
		lines = []string{
			host + ". IN A the public IPv4 address of this server",
			host + ". IN AAAA its public IPv6 address, if there is one",
		}
	}
	return lines
}

// publicAddresses returns the addresses of this machine that are not private.
func publicAddresses() (found []netip.Addr) {
	list, _ := net.InterfaceAddrs() // without them, the operator fills them in
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() && !prefix.Addr().IsPrivate() {
			found = append(found, prefix.Addr())
		}
	}
	return found
}
