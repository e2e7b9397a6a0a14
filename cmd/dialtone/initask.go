package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/config"
	"dialtone/internal/fault"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
)

// question is an answer that init needs: a flag, or what a person types.
type question struct {
	to         *string
	flag, text string // without a text, it is not asked
	fallback   func() string
	optional   bool
	skip       func() bool // whether the answer would not be used
	check      func() error
}

// questions returns what init asks, in this order: an answer may depend on those before it.
func (s *setup) questions() []question {
	host := func() string { return s.Host }
	none := func() string { return "" }
	existing := func() bool { return !s.fresh }
	known := func() bool { return s.tenant != nil }
	notFiles := func() bool { return !s.fresh || s.TLS != "files" }
	return []question{
		{to: &s.Host, flag: "host", text: "Host name, such as phone.example.org", check: s.checkHost},
		{to: &s.Realm, flag: "realm", text: "Digest realm, fixed once there are accounts", fallback: host, skip: known,
			check: func() error { return s.checkTenant(tenantOptions{Realm: &s.Realm}) }},
		{to: &s.Product, flag: "product", text: "Name of the platform for people", fallback: host, skip: known,
			check: func() error { return s.checkTenant(tenantOptions{Product: &s.Product}) }},
		{to: &s.TLS, flag: "tls", text: "TLS by a proxy, by certificate files, or by ACME (proxy, files, acme)",
			fallback: s.usualTLS, skip: existing, check: s.checkTLS},
		{to: &s.TLSCert, flag: "tls-cert", text: "File with the certificate chain", skip: notFiles,
			check: s.checkCerts},
		{to: &s.TLSKey, flag: "tls-key", text: "File with its private key", skip: notFiles, check: s.checkPair},
		{to: &s.Listen, flag: "listen", fallback: none, optional: true, skip: existing,
			check: func() error { return s.checkKey("listen", s.Listen) }},
		{to: &s.Relay, flag: "mail-relay",
			text:     "SMTP relay, such as smtps://user@mail.example.org:465, or nothing for the pickup directory",
			fallback: none, optional: true, skip: existing, check: s.checkRelay},
		{to: &s.PasswordFile, flag: "mail-relay-password-file", text: "File with the password for the relay",
			skip:  func() bool { return !s.fresh || s.PasswordFile == "" && !s.needsPassword() },
			check: func() error { return s.checkFile(&s.PasswordFile) }},
		{to: &s.Admin, flag: "admin", text: "User name of the first operator", check: s.checkAdmin},
		{to: &s.Email, flag: "email", text: "E-mail address of the first operator",
			skip: func() bool { return s.exists }, check: s.checkEmail},
		{to: &s.PhoneServer, flag: "phone-server", fallback: func() string { return "kamailio" },
			check: func() error { return withoutField(sipserver.CheckName(s.PhoneServer)) }},
	}
}

// askAll asks for what was not given, and checks all answers. On a terminal, it asks again for a wrong one.
func (s *setup) askAll() error {
	if s.fresh {
		s.useGiven()
	}
	interactive := !s.Yes && terminal.Interactive(s.p.stdin)
	in := bufio.NewReader(s.p.stdin)
	var wrong []string
	for _, q := range s.questions() {
		if q.skip != nil && q.skip() {
			continue
		}
		err := s.answer(q, interactive, in)
		if _, ok := errors.AsType[usageError](err); ok && q.to != &s.Host {
			wrong = append(wrong, err.Error())
		} else if err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		return usageError{errors.New(strings.Join(wrong, "; "))}
	}
	return nil
}

// answer gets the answer to a question. It fails with usageError if the one that was given is missing or wrong.
func (s *setup) answer(q question, interactive bool, in *bufio.Reader) error {
	given := *q.to != ""
	fallback := ""
	if q.fallback != nil {
		fallback = q.fallback()
	}
	for {
		switch {
		case given:
		case interactive && q.text != "":
			if err := s.ask(q, fallback, in); err != nil {
				return err
			}
		case q.fallback == nil:
			return usageError{fault.New(fault.Invalid, "--%s is missing, and there is no terminal to ask at", q.flag)}
		default:
			*q.to = fallback
		}
		if *q.to == "" && q.optional {
			return nil
		}
		err := errors.New("an answer is needed")
		if *q.to != "" {
			err = named(q.check())
		}
		switch _, refused := errors.AsType[*fault.Error](err); {
		case err == nil:
			return nil
		case given || !interactive:
			if refused {
				err = usageError{fmt.Errorf("--%s: %w", q.flag, err)}
			}
			return err
		case *q.to != "" && !refused:
			return err
		}
		fmt.Fprintf(terminal.To(s.p.stderr), "  %v\n", err)
		*q.to = ""
	}
}

// ask asks a person once.
func (s *setup) ask(q question, fallback string, in *bufio.Reader) error {
	fmt.Fprint(s.p.stderr, q.text)
	if fallback != "" {
		fmt.Fprintf(terminal.To(s.p.stderr), " [%s]", fallback)
	}
	fmt.Fprint(s.p.stderr, ": ")
	text, err := terminal.ReadLine(s.p.ctx, in, s.p.stderr)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if *q.to = cmp.Or(text, fallback); *q.to == "" && !q.optional && err != nil {
		return fault.New(fault.Conflict, "the questions were not answered")
	}
	return nil
}

// withoutField returns an error without its field, whose name is that of a field of accounts.
func withoutField(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Invalid, "%v", err)
}

// checkHost also brings the host into the form that the store has, and looks the tenant up.
func (s *setup) checkHost() (err error) {
	if s.Host, err = installation.TypedHost(s.Host); err != nil {
		return err
	}
	return s.look(func(in *installation.Installation) error {
		t, err := in.TenantOf(s.p.ctx, s.Host)
		if err == nil {
			s.tenant = t
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
		return nil
	})
}

// look runs a function with the store, if there is one.
func (s *setup) look(do func(*installation.Installation) error) (err error) {
	in, err := installation.Open(s.p.ctx, s.conf, installation.Options{})
	if errors.Is(err, installation.ErrNoStore) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Store.Close()) }()
	return do(in)
}

func (s *setup) checkTenant(o tenantOptions) error {
	_, err := o.apply(tenant.Tenant{Host: s.Host})
	return err
}

func (s *setup) usualTLS() string {
	if s.TLSCert != "" || s.TLSKey != "" {
		return "files"
	}
	return "proxy"
}

func (s *setup) checkTLS() error {
	if !slices.Contains([]string{"proxy", "files", "acme"}, s.TLS) {
		return fault.New(fault.Invalid, "%q is not an answer; type proxy, files or acme", s.TLS)
	}
	if s.TLS != "files" && (s.TLSCert != "" || s.TLSKey != "") {
		return fault.New(fault.Invalid, "certificate files are not used with %s; leave --tls-cert and --tls-key out, "+
			"or choose files", s.TLS)
	}
	if why := notInDNS(s.Host); s.TLS == "acme" && why != "" {
		return fault.New(fault.Invalid, "a certificate authority issues no certificate for %s, which %s; "+
			"choose proxy or files", s.Host, why)
	}
	return nil
}

// checkFile checks that the server can read a file, and makes its path absolute.
func (s *setup) checkFile(path *string) (err error) {
	if *path, err = filepath.Abs(*path); err != nil {
		return err
	}
	if err := s.user.CheckReadable(*path); err != nil {
		return fault.New(fault.Invalid, "%v", err)
	}
	return nil
}

// files returns the files of an answer. An answer from the environment may be a list of them.
func (s *setup) files(key, answer string) []string {
	if s.given[key] == answer {
		return strings.Split(answer, ",")
	}
	return []string{answer}
}

// checkCerts checks the files of the certificate.
func (s *setup) checkCerts() error {
	certs := s.files("tls.cert", s.TLSCert)
	for i := range certs {
		if err := s.checkFile(&certs[i]); err != nil {
			return err
		}
	}
	s.TLSCert = strings.Join(certs, ",")
	return nil
}

// checkPair checks the files of the key, and that they belong to the certificate, if that can be read.
func (s *setup) checkPair() error {
	certs, keys := s.files("tls.cert", s.TLSCert), s.files("tls.key", s.TLSKey)
	if len(certs) != len(keys) {
		return fault.New(fault.Invalid, "there are %d certificates, and %d keys", len(certs), len(keys))
	}
	var pairs []tlscert.Pair
	for i := range certs {
		if err := s.checkFile(&keys[i]); err != nil {
			return err
		}
		if s.checkFile(&certs[i]) != nil {
			return nil // checkCerts has said so
		}
		pairs = append(pairs, tlscert.Pair{Cert: certs[i], Key: keys[i]})
	}
	s.TLSCert, s.TLSKey = strings.Join(certs, ","), strings.Join(keys, ",")
	faults := tlscert.Check("the certificate", "the key", pairs, []string{s.Host}, time.Now())
	if len(faults) > 0 {
		return fault.New(fault.Invalid, "%s", strings.Join(faults, "; "))
	}
	return nil
}

// checkKey checks the value of a key of the configuration.
func (s *setup) checkKey(name, value string, more ...string) error {
	environ := more
	for _, k := range config.Keys() {
		if k.Name == name {
			environ = append(environ, k.Variable()+"="+value)
		}
	}
	_, err := config.Load("", environ, nil)
	if faults, ok := errors.AsType[config.Faults](err); ok {
		if text := faultTexts(faults, name); text != "" {
			return fault.New(fault.Invalid, "%s", text)
		}
	}
	return nil
}

func (s *setup) checkRelay() error {
	return s.checkKey("mail.relay", s.Relay, "DIALTONE_MAIL_RELAY_PASSWORD=given later")
}

// needsPassword reports whether the relay wants a password that the environment of the server does not have.
func (s *setup) needsPassword() bool {
	return config.RelayURL(s.Relay).Parts().User != "" && s.conf.Mail.RelayPassword == config.Secret{}
}

// checkAdmin checks the name of a new account.
func (s *setup) checkAdmin() error {
	if s.tenant != nil {
		err := s.look(func(in *installation.Installation) error {
			_, err := s.p.accounts(in).Find(s.p.ctx, s.tenant.ID, s.Admin)
			if s.exists = err == nil; fault.Is(err, fault.NotFound) {
				return nil
			}
			return err
		})
		if err != nil || s.exists {
			return err
		}
	}
	var words []string
	if s.tenant != nil {
		words = s.tenant.Reserved
	}
	reserved, err := account.NewReserved(words)
	if err != nil {
		return err
	}
	return account.CheckUser(s.Admin, reserved)
}

func (s *setup) checkEmail() error {
	_, err := account.CleanEmail(s.Email)
	return err
}

// sayUnused names the answers about a tenant and an account that exist.
func (s *setup) sayUnused(in *installation.Installation) error {
	if s.tenant == nil {
		return nil
	}
	host := s.tenant.Host
	if s.Realm != "" && s.Realm != s.tenant.Realm {
		if err := s.p.say("--realm is ignored, because the tenant has the realm %s, which is fixed while it has "+
			"accounts", s.tenant.Realm); err != nil {
			return err
		}
	}
	if s.Product != "" && s.Product != s.tenant.Name() {
		if err := s.p.say("--product is ignored; to change it, run: dialtone tenant set %s --product NAME",
			host); err != nil {
			return err
		}
	}
	if !s.exists || s.Email == "" {
		return nil
	}
	a, err := s.p.accounts(in).Find(s.p.ctx, s.tenant.ID, s.Admin)
	if err != nil || a.Email == s.Email {
		return err
	}
	return s.p.say("--email is ignored; to change the address, run: dialtone account email %s ADDRESS --tenant %s",
		s.Admin, host)
}
