package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dialtone/deploy"
	"dialtone/internal/account"
	"dialtone/internal/atomicfile"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/maildns"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
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
	Product      string `placeholder:"NAME" help:"Name of the platform for people (the host)."`
	TLS          string `name:"tls" placeholder:"HOW" help:"proxy, files or acme (proxy)."`
	Listen       string `placeholder:"ADDR" help:"Address for people (127.0.0.1:8080 behind a proxy, otherwise :443)."`
	TLSCert      string `name:"tls-cert" placeholder:"FILE" help:"Certificate chain, with --tls=files."`
	TLSKey       string `name:"tls-key" placeholder:"FILE" help:"File with its private key."`
	Relay        string `name:"mail-relay" placeholder:"URL" help:"SMTP relay (none: the pickup directory)."`
	PasswordFile string `name:"mail-relay-password-file" placeholder:"FILE" help:"File with its password (none)."`
	Admin        string `placeholder:"USER" help:"User name of the first operator."`
	Email        string `placeholder:"ADDRESS" help:"E-mail address of the first operator."`
	Link         bool   `help:"Print the link to choose the password, besides the message."`
	User         string `placeholder:"NAME" help:"User that the server runs as (dialtone, if run as root)."`
	PhoneServer  string `placeholder:"NAME" help:"Name of the phone server that gets a token (kamailio)."`
	Yes          bool   `help:"Ask nothing."`
}

// Help is what "dialtone init --help" adds.
func (initCommand) Help() string {
	return "It writes a configuration (--config, " + newConfig + "), creates the data directory (--data, " + newData +
		") with keys and store, adds the first tenant and an operator, and prints the DNS records to add. Beside the " +
		"configuration, the directory init gets examples for nginx, Kamailio and systemd. On a terminal, it asks for " +
		"what is not given. Nothing that exists is overwritten, except a configuration that sets only data, such as " +
		"that of the Debian package: run it again if it was interrupted."
}

func (c *initCommand) Run(p *program) error {
	if err := c.ask(p); err != nil {
		return err
	}
	if p.line.Config = p.configFile(); p.line.Config == "" {
		p.line.Config = newConfig
	}
	path, err := filepath.Abs(p.line.Config)
	if err != nil {
		return err
	}
	p.line.Config = path
	if err := c.writeConfig(p, path); err != nil {
		return err
	}
	conf, err := p.settings()
	if err != nil {
		return err
	}
	if err := c.createData(conf); err != nil {
		return err
	}
	return p.withStore(always, func(in *installation) error {
		if err := asCaller(func() error { return shareConfig(path, conf.Data) }); err != nil {
			return err
		}
		t, err := c.addTenant(p, in)
		if err != nil {
			return err
		}
		o := operation{p.operators(in), in, p.caller(), t}
		if err := errors.Join(c.addAdmin(p, o), o.Flush()); err != nil {
			return err
		}
		dir := filepath.Join(filepath.Dir(path), "init")
		if err := asCaller(func() error { return c.writeExamples(p, in, t, dir) }); err != nil {
			return err
		}
		return c.printSteps(p, in, t, dir)
	})
}

// ask asks for what was not given, and checks the answers.
func (c *initCommand) ask(p *program) error {
	questions := []struct {
		to             *string
		flag, question string
		fallback       func() string
		required       bool
	}{
		{&c.Host, "host", "Host name, such as phone.example.org", nil, true},
		{&c.Realm, "realm", "Digest realm, fixed once there are accounts", func() string { return c.Host }, false},
		{&c.Product, "product", "Name of the platform for people", func() string { return c.Host }, false},
		{&c.TLS, "tls", "TLS by a proxy, by certificate files, or by ACME (proxy, files, acme)",
			func() string { return "proxy" }, false},
		{&c.TLSCert, "tls-cert", "File with the certificate chain", nil, true},
		{&c.TLSKey, "tls-key", "File with its private key", nil, true},
		{&c.Relay, "mail-relay",
			"SMTP relay, such as smtps://user@mail.example.org:465, or nothing for the pickup directory",
			func() string { return "" }, false},
		{&c.Admin, "admin", "User name of the first operator", nil, true},
		{&c.Email, "email", "E-mail address of the first operator", nil, true},
	}
	terminal := !c.Yes && p.atTerminal()
	in := bufio.NewReader(p.stdin)
	for _, q := range questions {
		if *q.to != "" || (q.to == &c.TLSCert || q.to == &c.TLSKey) && c.TLS != "files" {
			continue
		}
		fallback := ""
		if q.fallback != nil {
			fallback = q.fallback()
		}
		if !terminal {
			if q.required {
				return usageError{fault.New(fault.Invalid, "--%s is missing, and there is no terminal to ask at",
					q.flag)}
			}
			*q.to = fallback
			continue
		}
		for *q.to == "" {
			fmt.Fprint(p.stderr, q.question)
			if fallback != "" {
				fmt.Fprintf(p.stderr, " [%s]", fallback)
			}
			fmt.Fprint(p.stderr, ": ")
			text, err := in.ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if *q.to = strings.TrimSpace(text); *q.to == "" {
				*q.to = fallback
			}
			if *q.to != "" || !q.required {
				break
			}
			if err != nil {
				return fault.New(fault.Conflict, "nothing was changed, because the questions were not answered")
			}
		}
	}
	if !slices.Contains([]string{"proxy", "files", "acme"}, c.TLS) {
		return usageError{fault.New(fault.Invalid, "--tls is proxy, files or acme, not %q", c.TLS)}
	}
	if c.PhoneServer == "" {
		c.PhoneServer = "kamailio"
	}
	if err := sipserver.CheckName(c.PhoneServer); err != nil {
		return usageError{err}
	}
	return nil
}

// writeConfig writes a configuration, unless there is one that sets more than the data directory, as that of the
// Debian package does.
func (c *initCommand) writeConfig(p *program, path string) error {
	existing, err := os.ReadFile(path)
	if err == nil && len(settingsIn(existing)) > 0 {
		return p.say("%s exists, and is used as it is, also for TLS and mail", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	write, wrote := atomicfile.Create, "wrote the configuration %s"
	if err == nil {
		write, wrote = atomicfile.Replace, "wrote the answers into the configuration %s"
	}
	quote := strconv.Quote
	flags := map[string]string{}
	p.line.Settings.addTo(flags)
	data := flags["data"]
	if data == "" {
		data = newData
		if existing != nil {
			was, err := config.Load(path, nil, nil)
			if err != nil {
				return err
			}
			data = was.Data
		}
	}
	data, err = filepath.Abs(data)
	if err != nil {
		return err
	}
	values := map[string]string{"data": quote(data)}
	listen := c.Listen
	switch c.TLS {
	case "proxy":
		values["http.trusted_proxies"] = `["127.0.0.1", "::1"]`
	case "files":
		values["tls.cert"], values["tls.key"] = "["+quote(c.TLSCert)+"]", "["+quote(c.TLSKey)+"]"
	case "acme":
		values["tls.acme"], values["tls.acme_email"] = "true", quote(c.Email)
	}
	if c.TLS != "proxy" && listen == "" {
		listen = ":443"
		values["tls.redirect_listen"] = quote(":80")
	}
	if listen != "" {
		values["listen"] = quote(listen)
	}
	if c.Relay != "" {
		values["mail.relay"] = quote(c.Relay)
	}
	if c.PasswordFile != "" {
		values["mail.relay_password_file"] = quote(c.PasswordFile)
	}
	text := config.Example(values)
	if err := checkConfig(text); err != nil {
		return err
	}
	if err := atomicfile.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := write(path, text); err != nil {
		return err
	}
	return p.say(wrote, path)
}

// settingsIn returns the lines of a configuration that are neither comments nor headings, nor the data directory.
func settingsIn(text []byte) (lines []string) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		key, _, _ := strings.Cut(line, "=")
		if line != "" && line[0] != '#' && line[0] != '[' && strings.TrimSpace(key) != "data" {
			lines = append(lines, line)
		}
	}
	return lines
}

// checkConfig checks a configuration before it is written to its place.
func checkConfig(text string) error {
	dir, err := os.MkdirTemp("", "dialtone")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "dialtone.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	_, err = config.Load(path, nil, nil)
	if faults, ok := errors.AsType[config.Faults](err); ok {
		var list []string
		for _, f := range faults {
			list = append(list, f.Key+": "+f.Text)
		}
		return usageError{fault.New(fault.Invalid, "nothing was changed, because the configuration would be wrong: %s",
			strings.Join(list, "; "))}
	}
	return err
}

// createData creates the data directory for the user of the server, unless it exists.
func (c *initCommand) createData(conf config.Config) error {
	if _, err := os.Stat(conf.Data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var owner *user.User
	if os.Geteuid() == 0 {
		name := c.User
		if name == "" {
			name = newUser
		}
		u, err := user.Lookup(name)
		if err != nil && c.User != "" {
			return fault.New(fault.Invalid, "there is no user %s; create it, or give another --user", name)
		} else if err == nil {
			owner = u
		}
	}
	if err := datadir.Dir(conf.Data).Create(); err != nil || owner == nil {
		return inDataDir(err)
	}
	uid, err1 := strconv.Atoi(owner.Uid)
	gid, err2 := strconv.Atoi(owner.Gid)
	return errors.Join(err1, err2, os.Lchown(conf.Data, uid, gid))
}

// shareConfig lets the user of the server read a configuration that root has written.
func shareConfig(path, data string) error {
	info, err := os.Stat(data)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	gid := info.Sys().(*syscall.Stat_t).Gid
	// The directory may be that of the user, who must not get another file of root's by a link.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	file, err := f.Stat()
	if err != nil || !file.Mode().IsRegular() || file.Mode().Perm() != 0o600 ||
		file.Sys().(*syscall.Stat_t).Nlink != 1 || info.Sys().(*syscall.Stat_t).Uid == 0 {
		return err // it belongs to somebody, or is shared already
	}
	return errors.Join(f.Chown(-1, int(gid)), f.Chmod(0o640))
}

// addTenant returns the tenant, and adds it first if it is missing.
func (c *initCommand) addTenant(p *program, in *installation) (*tenant.Tenant, error) {
	t, err := in.tenantOf(p.ctx, c.Host)
	if err == nil {
		return t, p.say("the tenant %s exists", t.Host)
	} else if fe, ok := errors.AsType[*fault.Error](err); !ok || fe.Kind != fault.NotFound {
		return nil, err
	}
	options := tenantOptions{Realm: &c.Realm, Product: &c.Product}
	// The store keeps microseconds.
	made, err := options.apply(tenant.Tenant{Host: c.Host, Created: time.Now().UTC().Truncate(time.Microsecond)})
	if err != nil {
		return nil, err
	}
	if made, err = in.store.AddTenant(p.ctx, made); err != nil {
		return nil, err
	}
	return &made, p.say("added the tenant %s with the realm %s", made.Host, made.Realm)
}

// addAdmin adds the operator, who chooses a password by a link.
func (c *initCommand) addAdmin(p *program, o operation) error {
	n := account.NewAccount{User: c.Admin, Name: c.Admin, Email: c.Email, Role: account.Admin, Active: c.Link}
	a, err := o.Add(p.ctx, o.caller, o.tenant, n, "")
	if errors.Is(err, account.ErrTaken) {
		return p.say("the account %s exists; for another link, run: dialtone account reset-link %s --tenant %s",
			c.Admin, c.Admin, o.tenant.Host)
	} else if err != nil {
		return named(err)
	}
	if err := p.say("added the operator %s; the server, once it runs, sends a message with a link to choose the "+
		"password to %s", a.User, a.Email); err != nil || !c.Link {
		return err
	}
	if o.tenant.PublicURL == "" {
		o.tenant.PublicURL = o.in.defaultURL(o.tenant.Host)
	}
	link, until, err := o.ResetLink(p.ctx, o.caller, o.tenant, c.Admin, "", account.MaxResetLife)
	if err != nil {
		return err
	}
	return p.say("this link works once, until %s:\n  %s", until.Format(time.RFC3339), link)
}

// writeExamples writes the files for other programs, with the host and the addresses of this installation.
func (c *initCommand) writeExamples(p *program, in *installation, t *tenant.Tenant, dir string) error {
	if err := atomicfile.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	here := strings.NewReplacer("phone.example.org", t.Host, "127.0.0.1:8080", in.Listen,
		"/etc/dialtone/dialtone.toml", p.line.Config, "/usr/bin/dialtone", executable(),
		"\n##!define SIPS", sips(in.TLS.ACME))
	files := map[string]string{
		"kamailio.cfg":     here.Replace(deploy.Kamailio),
		"dialtone.service": here.Replace(deploy.Unit),
	}
	if !in.TLS.On() {
		files["nginx.conf"] = here.Replace(deploy.Nginx)
	}
	if in.TLS.ACME {
		files["tls.cfg"] = here.Replace(deploy.KamailioTLS)
		files["dialtone-certificate.service"] = here.Replace(deploy.CertificateService)
		files["dialtone-certificate.timer"] = deploy.CertificateTimer
	}
	if lowPort(in.Listen) || lowPort(in.TLS.RedirectListen) {
		files["low-ports.conf"] = deploy.LowPorts
	}
	for name, text := range files {
		if err := atomicfile.Create(filepath.Join(dir, name), text); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return c.addPhoneServer(p.ctx, in, t, filepath.Join(dir, "directory.cfg"))
}

// sips returns the lines of kamailio.cfg that turn on TLS for phones: with ACME, there is a certificate for them.
// 0.0.0.0 is every IPv4 address; Kamailio needs the IPv6 addresses one by one.
func sips(on bool) string {
	if !on {
		return "\n##!define SIPS"
	}
	text := "\n#!define SIPS"
	for _, a := range publicAddresses() {
		if a.Is6() {
			text += "\nlisten=tls:[" + a.String() + "]:5061"
		}
	}
	return text
}

// lowPort reports whether a program needs a capability to listen at an address.
func lowPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	number, err2 := strconv.Atoi(port)
	return err == nil && err2 == nil && number > 0 && number < 1024
}

// addPhoneServer writes the file with the token of the phone server, and adds the phone server. If only one of both
// was done before, it does both again, because the store does not know the token.
func (c *initCommand) addPhoneServer(ctx context.Context, in *installation, t *tenant.Tenant, path string) error {
	var list []sipserver.Server
	err := asActing(func() (err error) {
		list, _, err = in.store.Servers(ctx)
		return err
	})
	if err != nil {
		return err
	}
	known := slices.ContainsFunc(list, func(s sipserver.Server) bool { return s.Name == c.PhoneServer })
	_, err = os.Stat(path)
	switch {
	case err == nil && known:
		return nil
	case err == nil:
		err = os.Remove(path)
	case errors.Is(err, fs.ErrNotExist) && known:
		err = asActing(func() error { return in.store.RemoveServer(ctx, c.PhoneServer) })
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return err
	}
	token := secret.NewToken()
	line := fmt.Sprintf("#!define DIRECTORY \"dialtone=>http://%s:%s@%s\"\n", c.PhoneServer, token.Text(),
		reachable(in.Ops.Listen))
	if err := atomicfile.Create(path, line); err != nil {
		return err
	}
	return asActing(func() error {
		return in.store.AddServer(ctx, sipserver.Server{
			Name: c.PhoneServer, Token: token.Hash(), Tenants: []int64{t.ID},
			Created: time.Now().UTC().Truncate(time.Microsecond),
		})
	})
}

// executable returns the path of this program.
func executable() string {
	path, err := os.Executable()
	if err != nil {
		return "/usr/bin/dialtone"
	}
	return path
}

// printSteps prints the DNS records and what to do next.
func (c *initCommand) printSteps(p *program, in *installation, t *tenant.Tenant, dir string) error {
	say := func(format string, args ...any) { fmt.Fprintf(escaped{p.stdout}, format+"\n", args...) }
	say("\nDNS records to add:")
	for _, line := range addressRecords(t.Host) {
		say("  %s", line)
	}
	records := []string{
		"_sips._tcp.%[1]s. IN SRV 10 0 5061 %[1]s.", `%[1]s. IN NAPTR 10 0 "s" "SIPS+D2T" "" _sips._tcp.%[1]s.`,
	}
	if !in.TLS.ACME { // otherwise kamailio.cfg has only TLS for other machines
		records = append(records, "_sip._tcp.%[1]s. IN SRV 10 0 5060 %[1]s.",
			"_sip._udp.%[1]s. IN SRV 10 0 5060 %[1]s.", `%[1]s. IN NAPTR 20 0 "s" "SIP+D2T" "" _sip._tcp.%[1]s.`,
			`%[1]s. IN NAPTR 30 0 "s" "SIP+D2U" "" _sip._udp.%[1]s.`)
	}
	for _, line := range records {
		say("  "+line, t.Host)
	}
	public, err := dkim.NewKeys(in.store, in.seal).List(p.ctx, t.ID)
	if err != nil {
		return err
	}
	var keys []maildns.Key
	for _, k := range public {
		keys = append(keys, maildns.Key{Selector: k.Selector, Record: k.Record})
	}
	relay, _, _ := net.SplitHostPort(in.Mail.Relay.Parts().Address)
	for _, f := range maildns.Check(p.ctx, emptyDNS{}, mailmsg.Domain(t.Sender()), relay, keys) {
		if f.Add != "" {
			say("  %s", maildns.ZoneLine(f.Name, f.Add))
		}
	}
	if len(keys) == 0 && in.Mail.Relay != "" {
		say("  for DKIM, unless the relay signs: dialtone mail dkim add %s --selector dialtone", t.Host)
	}
	say("\nExamples in %s; each says what it is for:", dir)
	if !in.TLS.On() {
		say("  nginx.conf         for /etc/nginx/sites-enabled/")
	}
	say("  kamailio.cfg       with directory.cfg, which has a token: only Kamailio may read it")
	if in.TLS.ACME {
		say("  tls.cfg            beside kamailio.cfg, for phones that use TLS")
		say("  dialtone-certificate.service, .timer  for /etc/systemd/system/: Kamailio gets the certificate")
	}
	say("  dialtone.service   for /etc/systemd/system/, unless a package has installed it")
	if lowPort(in.Listen) || lowPort(in.TLS.RedirectListen) {
		say("  low-ports.conf     for /etc/systemd/system/dialtone.service.d/, without which the server cannot start")
	}
	say("\nNext:")
	say("  systemctl enable --now dialtone")
	say("  dialtone health --config %s", p.line.Config)
	say("  dialtone doctor --config %s", p.line.Config)
	return nil
}

// emptyDNS has no records.
type emptyDNS struct{}

// LookupTXT implements maildns.Resolver.
func (emptyDNS) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// addressRecords returns records for the public addresses of this machine, or one to fill in.
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
