package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/deploy"
	"dialtone/internal/atomicfile"
	"dialtone/internal/config"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
)

// writeExamples writes the files for other programs, with the host and the addresses of this installation. It does not
// change existing files, and prints which of them differ from what it would write.
func (s *setup) writeExamples(in *installation.Installation, dir string) error {
	if err := s.printUnused(in); err != nil {
		return err
	}
	// root stays the same directory even if another user replaces dir by a link.
	root, err := openExamples(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	files := exampleFiles(in.Config, s.path, s.user, *s.tenant)
	var stale []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := atomicfile.CreateIn(root, name, files[name])
		if errors.Is(err, fs.ErrExist) {
			if text, readErr := readIn(root, name, len(files[name])+1); readErr == nil && text != files[name] {
				stale = append(stale, name)
			}
		} else if err != nil {
			return err
		}
	}
	if len(stale) > 0 {
		err := s.printf("in %s, these files were not changed, but are out of date: %s; to get new ones, remove them "+
			"and run init again", dir, strings.Join(stale, ", "))
		if err != nil {
			return err
		}
	}
	return s.addPhoneServer(in, root, "directory.cfg")
}

// examplesName is the name of the directory of the examples, which is next to the configuration.
const examplesName = "init"

func examplesDir(config string) string { return filepath.Join(filepath.Dir(config), examplesName) }

// checkExamples fails if the path of the examples exists and is not a directory. Another user may have put a link there
// to make root write elsewhere.
func checkExamples(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.New(fault.Conflict, "%s, where the examples go, is not a directory but a link or file; remove it, "+
		"and run init again", dir)
}

// openExamples opens the directory of the examples. It creates the directory if it is missing.
func openExamples(dir string) (*os.Root, error) {
	if err := atomicfile.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	above, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	if err := checkExamples(dir); err != nil {
		return nil, err
	}
	return above.OpenRoot(filepath.Base(dir)) // does not follow links that leave the directory
}

// readIn reads a regular file in a directory, up to limit bytes. It does not follow links that leave the directory: the
// file may belong to another user.
func readIn(root *os.Root, name string, limit int) (string, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", &fs.PathError{Op: "open", Path: filepath.Join(root.Name(), name), Err: regularfile.ErrOther}
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)))
	return string(text), err
}

// exampleFiles returns the content of the files by name, without the file that contains a token.
func exampleFiles(c config.Config, path string, u owner.User, t tenant.Tenant) map[string]string {
	here := strings.NewReplacer("phone.example.org", t.Host, "127.0.0.1:8080", installation.DialAddress(c.Listen),
		"/etc/dialtone/dialtone.toml", inUnit(path), "/usr/bin/dialtone", inUnit(executable()),
		"\n##!define SIPS", sips(c.TLS.ACME), realmLine, realmLine+realmOf(t))
	files := map[string]string{
		"kamailio.cfg":     here.Replace(deploy.Kamailio),
		"dialtone.service": serverUnit(here.Replace(deploy.Unit), c, path, u),
	}
	if !c.TLS.On() {
		files["nginx.conf"] = here.Replace(deploy.Nginx)
	}
	if c.TLS.ACME {
		files["tls.cfg"] = here.Replace(deploy.KamailioTLS)
		files["dialtone-certificate.service"] = certificateUnit(here.Replace(deploy.CertificateService), c, path)
		files["dialtone-certificate.timer"] = deploy.CertificateTimer
	}
	if lowPorts(c) {
		files["low-ports.conf"] = deploy.LowPorts
	}
	return files
}

// realmLine is the line of kamailio.cfg that the line of realmOf follows.
const realmLine = "\n\t# A tenant whose realm is not its host has a line here:"

// realmOf returns the line that sets the realm of a tenant in kamailio.cfg, or "" if the realm is the host.
func realmOf(t tenant.Tenant) string {
	if t.Realm == t.Host {
		return ""
	}
	return fmt.Sprintf("\n\tif ($avp(realm) == %q) { $avp(realm) = %q; }", t.Host, t.Realm)
}

// sips returns the lines of kamailio.cfg that turn TLS for phones on or off. It is on with ACME, which provides the
// certificate. Kamailio listens on all IPv4 addresses with 0.0.0.0, but needs every IPv6 address by itself.
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

// tokenIn matches the name and the token in directory.cfg.
var tokenIn = regexp.MustCompile(`(?m)^#!define DIRECTORY "dialtone=>https?://([^:@/"]+):([A-Za-z0-9_-]{43})@`)

// maxTokenFile limits how much of directory.cfg is read, in bytes. Init writes one line.
const maxTokenFile = 64 << 10

// addPhoneServer writes the file with the token of the phone server, and adds the phone server. It does not change an
// existing file. If an earlier run was interrupted after it had written the file, the phone server gets the token in
// it. If the file is missing, the phone server gets a new token, because the store contains only the hash of the old
// one.
func (s *setup) addPhoneServer(in *installation.Installation, root *os.Root, name string) error {
	ctx := s.ctx
	var list []sipserver.Server
	err := runas.AsOwner(func() (err error) {
		list, _, err = in.Store.Servers(ctx)
		return err
	})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(p sipserver.Server) bool { return p.Name == s.PhoneServer })
	path := filepath.Join(examplesDir(s.path), name)
	old, err := readIn(root, name, maxTokenFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		if i >= 0 {
			err := runas.AsOwner(func() error { return in.Store.RemoveServer(ctx, s.PhoneServer) })
			if err != nil {
				return err
			}
		}
		token := secret.NewToken()
		line := fmt.Sprintf("#!define DIRECTORY \"dialtone=>http://%s:%s@%s\"\n", s.PhoneServer, token.Text(),
			installation.DialAddress(in.Ops.Listen))
		if err := atomicfile.CreateIn(root, name, line); err != nil {
			return err
		}
		return s.addServer(ctx, in, token)
	}
	var token secret.Token
	m, ok := tokenIn.FindStringSubmatch(old), false
	if m != nil && m[1] == s.PhoneServer {
		token, ok = secret.ParseToken(m[2])
	}
	switch {
	case ok && i < 0:
		return s.addServer(ctx, in, token)
	case !ok || list[i].Token != token.Hash():
		return s.printf("%s was not changed, but its token is not that of %s; to get a new one, remove the file and "+
			"run init again", path, s.PhoneServer)
	case !slices.Contains(list[i].Tenants, s.tenant.ID):
		return s.printf("%s may not look up accounts of %s; for a token that covers it, run: dialtone directory token "+
			"remove %[1]s, and then: dialtone directory token add %[1]s --tenant HOST, with --tenant for each tenant",
			s.PhoneServer, s.tenant.Host)
	}
	return nil
}

func (s *setup) addServer(ctx context.Context, in *installation.Installation, token secret.Token) error {
	return runas.AsOwner(func() error {
		return in.Store.AddServer(ctx, sipserver.Server{
			Name: s.PhoneServer, Token: token.Hash(), Tenants: []int64{s.tenant.ID},
			Created: time.Now().UTC().Truncate(time.Microsecond),
		})
	})
}
