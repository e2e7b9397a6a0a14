package setup

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/config"
	"dialtone/internal/fault"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/tenant"
)

// checkHost checks and normalizes the host, and looks up its tenant.
func (s *setup) checkHost() (err error) {
	if s.Host, err = installation.NormalizeHost(s.Host); err != nil {
		return err
	}
	return s.look(func(in *installation.Installation) error {
		t, err := in.TenantOf(s.ctx, s.Host)
		if err == nil {
			s.tenant = t
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
		return nil
	})
}

// look calls do with the store, if there is one.
func (s *setup) look(do func(*installation.Installation) error) (err error) {
	in, err := installation.Open(s.ctx, s.conf, installation.Options{})
	if errors.Is(err, installation.ErrNoStore) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Store.Close()) }()
	return do(in)
}

// checkTenant checks a realm or the name of a product. An empty value stands for the host.
func checkTenant(host, realm, product string) error {
	t := tenant.Tenant{Host: host, Realm: realm}
	t.Product = product
	_, err := tenant.New(t)
	return err
}

// usualTLS returns the default answer to the question about TLS.
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

// files returns the files of an answer. An answer from the environment may be a list of files.
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

// checkPair checks the files of the private keys, and that each fits its certificate, if the certificates can be read.
func (s *setup) checkPair() error {
	certs, keys := s.files("tls.cert", s.TLSCert), s.files("tls.key", s.TLSKey)
	if len(certs) != len(keys) {
		return fault.New(fault.Invalid, "there are %d certificates, but %d keys", len(certs), len(keys))
	}
	var pairs []tlscert.Pair
	for i := range certs {
		if err := s.checkFile(&keys[i]); err != nil {
			return err
		}
		if s.checkFile(&certs[i]) != nil {
			return nil // checkCerts has reported it
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

// needsPassword reports whether the relay needs a password that the environment does not contain.
func (s *setup) needsPassword() bool {
	return config.RelayURL(s.Relay).Parts().User != "" && s.conf.Mail.RelayPassword == config.Secret{}
}

// checkAdmin checks the user name of the operator, and whether the account exists.
func (s *setup) checkAdmin() error {
	if s.tenant != nil {
		err := s.look(func(in *installation.Installation) error {
			_, err := in.Accounts(s.Log(in.Log)).Find(s.ctx, s.tenant.ID, s.Admin)
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

// printUnused prints which answers are ignored because the tenant or the account exists.
func (s *setup) printUnused(in *installation.Installation) error {
	if s.tenant == nil {
		return nil
	}
	host := s.tenant.Host
	if s.Realm != "" && s.Realm != s.tenant.Realm {
		if err := s.printf("--realm is ignored, because the tenant has the realm %s, which is fixed while it has "+
			"accounts", s.tenant.Realm); err != nil {
			return err
		}
	}
	if s.Product != "" && s.Product != s.tenant.Name() {
		if err := s.printf("--product is ignored; to change it, run: dialtone tenant set %s --product NAME",
			host); err != nil {
			return err
		}
	}
	if !s.exists || s.Email == "" {
		return nil
	}
	a, err := in.Accounts(s.Log(in.Log)).Find(s.ctx, s.tenant.ID, s.Admin)
	if err != nil || a.Email == s.Email {
		return err
	}
	return s.printf("--email is ignored; to change the address, run: dialtone account email %s ADDRESS --tenant %s",
		s.Admin, host)
}
