package setup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"dialtone/internal/atomicfile"
	"dialtone/internal/config"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
)

// readConfig reads the existing configuration, or prepares the new one from the environment and the flags. It then
// removes their keys from the options, because the server will not have them.
func (s *setup) readConfig() (err error) {
	if s.path, err = filepath.Abs(cmp.Or(s.Configuration, DefaultConfig)); err != nil {
		return err
	}
	var keys []string
	if s.old, err = readIfAny(s.path); err != nil {
		return err
	} else if s.old != nil {
		if keys, err = config.FileKeys(s.path); err != nil {
			return err
		}
	}
	s.fresh = !slices.ContainsFunc(keys, func(name string) bool { return name != "data" })
	if s.given, err = s.takeGiven(); err != nil {
		return err
	}
	if !s.fresh {
		return s.useExisting()
	}
	if s.given["data"] == "" {
		s.given["data"] = DefaultData
		if slices.Contains(keys, "data") {
			was, err := config.Load(s.path, s.Environ, nil)
			if err != nil {
				return err
			}
			if s.given["data"], err = filepath.Abs(was.Data); err != nil {
				return err
			}
		}
	}
	environ := slices.Clone(s.Environ)
	for _, k := range config.Keys() {
		if text, ok := s.given[k.Name]; ok {
			environ = append(environ, k.Variable()+"="+text)
		}
	}
	s.conf, err = config.Load("", environ, nil)
	return err
}

// readIfAny returns the text of a file, or nil if there is none.
func readIfAny(path string) (*string, error) {
	text, err := regularfile.ReadUpTo(path, config.MaxFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := string(text)
	return &all, nil
}

// takeGiven returns the keys that flags or the environment set, with absolute paths, and removes them from the options.
// It leaves secrets, which a configuration file cannot contain.
func (s *setup) takeGiven() (map[string]string, error) {
	flags := s.Given
	if _, err := config.Load("", s.Environ, flags); err != nil {
		return nil, err
	}
	given := map[string]string{}
	for _, k := range config.Keys() {
		if k.Secret {
			continue
		}
		i := slices.IndexFunc(s.Environ, func(entry string) bool { return strings.HasPrefix(entry, k.Variable()+"=") })
		text, ok := flags[k.Name]
		if i >= 0 && !ok {
			text = strings.TrimPrefix(s.Environ[i], k.Variable()+"=")
		}
		if i >= 0 {
			s.Environ = slices.Delete(slices.Clone(s.Environ), i, i+1)
		}
		if text == "" {
			continue
		}
		var err error
		if given[k.Name], err = absolute(k, text); err != nil {
			return nil, err
		}
	}
	s.Given = nil
	return given, nil
}

// absolute makes the paths in the value of a key absolute, because the server starts in another directory.
func absolute(k config.Key, text string) (string, error) {
	switch k.Type {
	case "directory", "file":
		return filepath.Abs(text)
	case "list of files":
		files := strings.Split(text, ",")
		for i, file := range files {
			var err error
			if files[i], err = filepath.Abs(strings.TrimSpace(file)); err != nil {
				return "", err
			}
		}
		return strings.Join(files, ","), nil
	}
	return text, nil
}

// useExisting uses an existing configuration unchanged. It fails if flags or the environment name another store.
func (s *setup) useExisting() (err error) {
	if s.conf, err = config.Load(s.path, s.Environ, nil); err != nil {
		return err
	}
	data, database := s.given["data"], s.given["database"]
	if !filepath.IsAbs(s.conf.Data) {
		if data == "" {
			data = DefaultData
		}
		return fault.New(fault.Conflict, "%s does not set data to an absolute path, so the server would look for the "+
			"data directory below the directory in which it starts; add this line at the beginning of the file: "+
			"data = %s", s.path, strconv.Quote(data))
	}
	if data != "" && filepath.Clean(s.conf.Data) != data {
		return fault.New(fault.Conflict, "%s sets data = %s, not %s; change it there, or leave out --data and "+
			"DIALTONE_DATA", s.path, strconv.Quote(s.conf.Data), strconv.Quote(data))
	}
	if database != "" && s.conf.Database != database {
		return fault.New(fault.Conflict, "%s names a different database, or none; change database there, or leave out "+
			"--database and DIALTONE_DATABASE", s.path)
	}
	return nil
}

// useGiven uses values from the environment as answers to questions that flags do not answer. If flags choose another
// kind of TLS, it drops the TLS settings of the environment.
func (s *setup) useGiven() {
	conf := s.conf
	if s.TLS == "" {
		switch {
		case conf.TLS.ACME:
			s.TLS = "acme"
		case len(conf.TLS.Cert) > 0:
			s.TLS = "files"
		}
	} else if (s.TLS == "acme") != conf.TLS.ACME || (s.TLS == "files") != (len(conf.TLS.Cert) > 0) {
		for _, name := range []string{"tls.acme", "tls.cert", "tls.key", "tls.redirect_listen"} {
			delete(s.given, name)
		}
	}
	for name, answer := range map[string]*string{
		"listen": &s.Listen, "tls.cert": &s.TLSCert, "tls.key": &s.TLSKey, "mail.relay": &s.Relay,
		"mail.relay_password_file": &s.PasswordFile,
	} {
		if *answer == "" {
			*answer = s.given[name]
		}
	}
}

// compose returns the text of the new configuration, and parses it into conf.
func (s *setup) compose() (string, error) {
	quote := strconv.Quote
	values := map[string]string{}
	for _, k := range config.Keys() {
		if text, ok := s.given[k.Name]; ok {
			values[k.Name] = k.TOML(text)
		}
	}
	byDefault := func(name, value string) {
		if _, ok := values[name]; !ok {
			values[name] = value
		}
	}
	switch s.TLS {
	case "proxy":
		byDefault("http.trusted_proxies", `["127.0.0.1", "::1"]`)
	case "files":
		if !strings.Contains(s.TLSCert, ",") { // a list from the environment
			values["tls.cert"], values["tls.key"] = "["+quote(s.TLSCert)+"]", "["+quote(s.TLSKey)+"]"
		}
	case "acme":
		values["tls.acme"] = "true"
		byDefault("tls.acme_email", quote(s.Email))
	}
	listen := s.Listen
	if s.TLS != "proxy" && listen == "" {
		listen = ":443"
		byDefault("tls.redirect_listen", quote(":80"))
	}
	for name, answer := range map[string]string{
		"listen": listen, "mail.relay": s.Relay, "mail.relay_password_file": s.PasswordFile,
	} {
		if answer != "" {
			values[name] = quote(answer)
		}
	}
	text := config.Example(values)
	conf, err := config.Parse(s.path, text, s.Environ)
	if faults, ok := errors.AsType[config.Faults](err); ok {
		err = AnswerError{fmt.Errorf("the configuration would be wrong: %s", faultTexts(faults, ""))}
	}
	s.conf = conf
	return text, err
}

// faultTexts joins the faults of one key, or of all keys if name is empty.
func faultTexts(faults config.Faults, name string) string {
	var list []string
	for _, f := range faults {
		if name == "" {
			list = append(list, f.Key+": "+f.Text)
		} else if f.Key == name {
			list = append(list, f.Text)
		}
	}
	return strings.Join(list, "; ")
}

// writeConfig writes the configuration, or prints that the existing one is used and which answers it contradicts.
func (s *setup) writeConfig(text string) error {
	if !s.fresh {
		if err := s.printf("%s exists, and is used as it is, also for TLS and mail", s.path); err != nil {
			return err
		}
		return s.printIgnored()
	}
	write, wrote := atomicfile.Create, "wrote the configuration %s"
	if s.old != nil {
		write = atomicfile.Replace
		wrote = "wrote the answers into the configuration %s, which set nothing except data"
		if s.conf.DatabaseHasPassword() { // the mode stays
			if err := hideFromOthers(s.path); err != nil {
				return err
			}
		}
	}
	if err := write(s.path, text); err != nil {
		return err
	}
	return s.printf(wrote, s.path)
}

// hideFromOthers removes the permissions of users who are neither the owner of a file nor in its group. It fails for a
// link and for a file with several names, because the owner of the directory may have put them there.
func hideFromOthers(path string) error {
	f, info, err := regularfile.OpenOnly(path)
	if errors.Is(err, regularfile.ErrOther) {
		return fault.New(fault.Conflict, "%v, and the answers contain a password; remove it, or give another --config",
			err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Chmod(info.Mode().Perm() & 0o770)
}

// printIgnored prints which answers an existing configuration contradicts, and what to change.
func (s *setup) printIgnored() error {
	tls := "proxy"
	switch {
	case s.conf.TLS.ACME:
		tls = "acme"
	case len(s.conf.TLS.Cert) > 0:
		tls = "files"
	}
	certs, keys := fileList(s.conf.TLS.Cert), fileList(s.conf.TLS.Key)
	for _, answer := range []struct{ flag, given, has, keys string }{
		{"--tls", s.TLS, tls, "tls.acme, tls.cert and tls.key"},
		{"--listen", s.Listen, s.conf.Listen, "listen"},
		{"--tls-cert", s.TLSCert, certs, "tls.cert"},
		{"--tls-key", s.TLSKey, keys, "tls.key"},
		{"--mail-relay", s.Relay, string(s.conf.Mail.Relay), "mail.relay"},
		{"--mail-relay-password-file", s.PasswordFile, s.conf.Mail.RelayPasswordFile, "mail.relay_password_file"},
	} {
		if answer.given == "" || answer.given == answer.has {
			continue
		}
		if err := s.printf("%s is ignored, because the configuration says otherwise; change %s there", answer.flag,
			answer.keys); err != nil {
			return err
		}
	}
	var variables []string
	for _, k := range config.Keys() {
		text, ok := s.given[k.Name]
		if !ok || k.Name == "data" || k.Name == "database" {
			continue
		}
		with, err := config.Load(s.path, append(slices.Clone(s.Environ), k.Variable()+"="+text), nil)
		if err == nil && slices.Contains(config.Changed(s.conf, with), k.Name) {
			variables = append(variables, k.Variable())
		}
	}
	if len(variables) == 0 {
		return nil
	}
	return s.printf("the server does not see %s, which only this command has in its environment; change the "+
		"configuration instead", strings.Join(variables, ", "))
}

func fileList(files []config.File) string {
	var all []string
	for _, f := range files {
		all = append(all, string(f))
	}
	return strings.Join(all, ",")
}

// removeLeftovers removes the temporary files of an init that was killed. In the directory of the configuration, other
// programs may have files with such names, so it also compares their first line.
func removeLeftovers(dir string) error {
	opening, _, _ := strings.Cut(config.Example(nil), "\n")
	above, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer above.Close()
	err = removeTemporary(above, opening)
	if err != nil {
		return err
	}
	examples, err := above.OpenRoot(examplesName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer examples.Close()
	return removeTemporary(examples, "")
}

// removeTemporary removes the temporary files of a directory whose content begins with opening.
func removeTemporary(root *os.Root, opening string) error {
	list, err := fs.Glob(root.FS(), ".temp-*")
	if err != nil {
		return err
	}
	for _, name := range list {
		text, err := readIn(root, name, len(opening))
		if err != nil || text != opening {
			continue
		}
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
