package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/process"
	"dialtone/internal/test/tlstest"
)

// startTLS is like start, for a server whose public listener uses TLS.
func startTLS(t testing.TB, l launch) *serverProcess {
	t.Helper()
	p := &serverProcess{stdout: new(process.Log), stderr: new(process.Log)}
	listen := l.listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	cmd := exec.Command(binary(t), append([]string{"serve", "--data", l.data, "--listen", listen, "--ops-listen",
		"127.0.0.1:0"}, l.flags...)...)
	cmd.Env = append([]string{"TZ=Pacific/Auckland"}, l.env...)
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	var err error
	if p.Process, err = process.Start(cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	err = p.WaitReady(ctx, func() error {
		for _, line := range p.stdout.Lines() {
			if address, ok := strings.CutPrefix(line, "Dialtone listens on "); ok {
				p.address = address
			} else if base, ok := strings.CutPrefix(line, "  internal   "); ok {
				p.operators = base
			} else if strings.HasPrefix(line, "  pickup ") {
				return nil
			}
		}
		return errors.New("it has not printed its addresses")
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, p.stderr)
	}
	return p
}

// newVisitorWithTLS returns a visitor that trusts the authorities.
func newVisitorWithTLS(server *serverProcess, roots *x509.CertPool) *visitor {
	v := newVisitor(server.address, "")
	transport := v.http.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tls.Client(conn, &tls.Config{ServerName: "localhost", RootCAs: roots}), nil
	}
	return v
}

// serialAt returns the serial number of the certificate that a client gets for a host.
func serialAt(address, host string, roots *x509.CertPool) (string, error) {
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: host, RootCAs: roots})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// clientOf returns a client of a listener with TLS, with a certificate unless cert is empty.
func clientOf(t *testing.T, roots *x509.CertPool, cert, key string) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       process.Timeout,
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// get returns the answer to a request with a Host, and its body.
func get(t *testing.T, client *http.Client, url, host string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// A server with certificates in files works without a proxy.
func TestTLS(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	cert, key := a.Issue(t, "localhost", time.Time{}, "localhost")
	otherCert, otherKey := a.Issue(t, "other", time.Time{}, "other.test")
	opsCert, opsKey := a.Issue(t, "ops", time.Time{}, "localhost")
	clientCert, clientKey := a.Issue(t, "client", time.Time{})
	data, plain := filepath.Join(t.TempDir(), "data"), process.Address(t)
	if out, err := exec.Command(binary(t), "tenant", "add", "other.test", "--data", data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(binary(t), "tenant", "add", "localhost", "--data", data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := startTLS(t, launch{data: data, flags: []string{
		"--tls-cert=" + otherCert + "," + cert, "--tls-key=" + otherKey + "," + key, "--tls-redirect-listen=" + plain,
		"--ops-tls-cert=" + opsCert, "--ops-tls-key=" + opsKey, "--ops-tls-client-ca=" + a.File,
	}})
	_, port, _ := net.SplitHostPort(server.address)

	// People.
	v := newVisitorWithTLS(server, a.Roots)
	defer v.leave()
	wantStatus(t, v, "alex", http.StatusOK)
	messages, err := messagesIn(filepath.Join(data, "pickup"))
	if err != nil || len(messages) != 1 || !strings.HasPrefix(messages[0].link, "https://localhost:"+port+"/") {
		t.Fatalf("messages: %+v, %v", messages, err)
	}
	if status, _, err := v.open(messages[0].link); err != nil || status != http.StatusOK {
		t.Errorf("the link: %d, %v", status, err)
	}
	if a, err := v.signIn("alex", password("alex")); err != nil || !a.OK {
		t.Errorf("sign-in: %v, %v", a, err)
	}

	// Protocols and hosts.
	client := clientOf(t, a.Roots, "", "")
	response, _ := get(t, client, "https://localhost:"+port+"/login.html", "")
	if response.ProtoMajor != 2 || response.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s, %v", response.Proto, response.Header)
	}
	for _, host := range []string{"other.test", "none.test"} {
		if response, _ := get(t, client, "https://localhost:"+port+"/login.html", host); response.StatusCode !=
			http.StatusMisdirectedRequest {
			t.Errorf("a request for %s over a connection for localhost: %d", host, response.StatusCode)
		}
	}
	if _, err := serialAt(server.address, "other.test", a.Roots); err != nil {
		t.Errorf("the second tenant: %v", err)
	}
	if _, err := tls.Dial("tcp", server.address, &tls.Config{
		ServerName: "localhost", RootCAs: a.Roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	}); err == nil {
		t.Error("TLS 1.1 is possible")
	}

	// Requests without TLS.
	response, _ = get(t, client, "http://"+plain+"/signup.html?lang=de", "localhost")
	if to := response.Header.Get("Location"); response.StatusCode != http.StatusPermanentRedirect ||
		to != "https://localhost:"+port+"/signup.html?lang=de" {
		t.Errorf("without TLS: %d, to %s", response.StatusCode, to)
	}
	response, body := get(t, client, "http://"+plain+"/", "none.test")
	if response.StatusCode != http.StatusMisdirectedRequest || !strings.Contains(body, "misdirected_request") {
		t.Errorf("without TLS, another host: %d, %s", response.StatusCode, body)
	}

	// Operators and phone servers.
	if response, err := client.Get(server.operators + "/readyz"); err == nil {
		response.Body.Close()
		t.Errorf("without a client certificate: %d", response.StatusCode)
	}
	health := func(opsCert string, args ...string) (status int, text string) {
		var out bytes.Buffer
		status = run(t.Context(), append([]string{"health"}, args...), []string{
			"DIALTONE_OPS_LISTEN=" + strings.TrimPrefix(server.operators, "https://"),
			"DIALTONE_OPS_TLS_CERT=" + opsCert, "DIALTONE_OPS_TLS_KEY=" + opsKey,
			"DIALTONE_OPS_TLS_CLIENT_CA=" + a.File,
		}, &out, &out)
		return status, out.String()
	}
	own := []string{"--client-cert=" + clientCert, "--client-key=" + clientKey}
	if status, text := health(opsCert, own...); status != 0 || !strings.Contains(text, "ready\n") {
		t.Errorf("health: status %d, %s", status, text)
	}
	if status, text := health(opsCert); status != exitUsage || !strings.Contains(text, "--client-cert") {
		t.Errorf("health without a client certificate: status %d, %s", status, text)
	}
	if status, text := health(cert, own...); status != exitFailed || !strings.Contains(text, "not the one in "+cert) {
		t.Errorf("health of a server with another certificate: status %d, %s", status, text)
	}
	foreignCert, foreignKey := tlstest.NewAuthority(t).Issue(t, "foreign", time.Time{})
	status, text := health(opsCert, "--client-cert="+foreignCert, "--client-key="+foreignKey)
	if status != exitFailed || !strings.Contains(text, "refuses the connection") ||
		strings.Contains(text, "does not answer") {
		t.Errorf("health with a certificate of another authority: status %d, %s", status, text)
	}
	operator := clientOf(t, a.Roots, clientCert, clientKey)
	readyz := func(says string, contains bool) {
		t.Helper()
		process.Eventually(t, "/readyz", func() error {
			response, body := get(t, operator, server.operators+"/readyz", "localhost")
			if response.StatusCode != http.StatusOK || strings.Contains(body, says) != contains {
				return fmt.Errorf("%d, %s", response.StatusCode, body)
			}
			return nil
		})
	}
	readyz(`"warning"`, false)
	_, metrics := get(t, operator, server.operators+"/metrics", "localhost")
	for _, line := range []string{
		`dialtone_tls_certificate_expiry_timestamp_seconds{listener="public",tenant="other.test"} 1.`,
		`dialtone_tls_certificate_expiry_timestamp_seconds{listener="ops",tenant=""} 1.`,
		`dialtone_check_warning{check="tls"} 0`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("/metrics does not have %s", line)
		}
	}

	// Files that change.
	before, err := serialAt(server.address, "localhost", a.Roots)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	a.Issue(t, "localhost", time.Now().Add(24*time.Hour), "localhost")
	next, err := os.ReadFile(key)
	if err == nil {
		err = os.WriteFile(key, old, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The server may have read both files before the key was replaced.
	process.Eventually(t, "a pair that does not belong together", func() error {
		readyz("private key does not match", true)
		return nil
	})
	if _, err := serialAt(server.address, "localhost", a.Roots); err != nil {
		t.Errorf("while the files are wrong: %v", err)
	}
	server.stderr.Wait(t, "TLS certificates not read again")
	if err := os.WriteFile(key, next, 0o600); err != nil {
		t.Fatal(err)
	}
	process.Eventually(t, "the new certificate", func() error {
		got, err := serialAt(server.address, "localhost", a.Roots)
		if err == nil && got == before {
			err = errors.New("still the certificate of before")
		}
		return err
	})
	readyz("the certificate of localhost expires at", true)
	if n := server.stderr.Count("TLS certificates not read again"); n != 1 {
		t.Errorf("the log has the failure %d times", n)
	}
	server.mustStop(t)
}

// checkedOps runs "config check" with files for the operators' listener.
func checkedOps(t testing.TB, data, cert, key, authority string) (text string, status int) {
	t.Helper()
	var out bytes.Buffer
	status = run(t.Context(), []string{"config", "check", "--data", data}, []string{
		"DIALTONE_OPS_TLS_CERT=" + cert, "DIALTONE_OPS_TLS_KEY=" + key, "DIALTONE_OPS_TLS_CLIENT_CA=" + authority,
	}, &out, &out)
	return out.String(), status
}

// A mismatched pair prevents a server from starting, and "config check" reports all faults.
func TestWrongCertificates(t *testing.T) {
	a := tlstest.NewAuthority(t)
	cert, key := a.Issue(t, "phone", time.Time{}, "phone.test")
	_, otherKey := a.Issue(t, "other", time.Time{}, "other.test")
	oldCert, oldKey := a.Issue(t, "old", time.Now().Add(-time.Hour), "old.test")
	data := filepath.Join(t.TempDir(), "data")
	dialtone := func(args ...string) (int, string) {
		t.Helper()
		cmd := exec.Command(binary(t), append(args, "--data", data)...)
		out, err := cmd.CombinedOutput()
		if failed, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			t.Fatal(err)
		} else if ok {
			return failed.ExitCode(), string(out)
		}
		return 0, string(out)
	}
	want := func(status int, texts []string, args ...string) {
		t.Helper()
		got, out := dialtone(args...)
		if got != status {
			t.Errorf("%v: status %d, want %d: %s", args, got, status, out)
		}
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("%v does not say %q: %s", args, text, out)
			}
		}
	}
	check := func(certs, keys string) []string {
		config := filepath.Join(t.TempDir(), "dialtone.toml")
		text := fmt.Sprintf("[tls]\ncert = [%s]\nkey = [%s]\n", certs, keys)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"config", "check", "--config", config}
	}
	quoted := strconv.Quote
	want(0, []string{"the configuration is valid"}, check(quoted(cert), quoted(key))...)
	want(0, nil, "tenant", "add", "phone.test")
	want(0, nil, "tenant", "add", "second.test")
	want(exitConfig, []string{"no certificate is for second.test"}, check(quoted(cert), quoted(key))...)
	want(exitConfig, []string{"private key does not match"}, check(quoted(cert), quoted(otherKey))...)
	absent := filepath.Join(t.TempDir(), "absent")
	ops := func(cert, key, authority string) string {
		t.Helper()
		out, status := checkedOps(t, data, cert, key, authority)
		if status != exitConfig {
			t.Errorf("status %d: %s", status, out)
		}
		return out
	}
	if out := ops(cert, absent, ""); !strings.Contains(out, "ops.tls_key: open "+absent) {
		t.Errorf("without the key: %s", out)
	}
	if out := ops(cert, key, absent); strings.Count(out, "cannot be used") != 1 ||
		!strings.Contains(out, "ops.tls_client_ca: open "+absent) {
		t.Errorf("without the authority: %s", out)
	}
	clientCert, clientKey := a.Issue(t, "kamailio", time.Time{})
	if out := ops(clientCert, clientKey, ""); !strings.Contains(out, "names no host") {
		t.Errorf("with the certificate of a client: %s", out)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	want(exitConfig, []string{"old.pem expired on", "phone.key can be read or changed by every user", "second.test"},
		check(quoted(cert)+","+quoted(oldCert), quoted(key)+","+quoted(oldKey))...)
	want(exitConfig, []string{"TLS certificate cannot be used", "private key does not match"},
		"serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--tls-cert="+cert, "--tls-key="+otherKey)
}

// A server obtains its certificates itself, and still has them after a restart.
func TestACME(t *testing.T) {
	t.Parallel()
	pebble := tlstest.NewPebble(t)
	roots := pebble.IssuedBy(t)
	data := filepath.Join(t.TempDir(), "data")
	if out, err := exec.Command(binary(t), "tenant", "add", "phone.test", "--data", data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l := launch{
		data: data, listen: "127.0.0.1:" + strconv.Itoa(pebble.TLSPort), flags: []string{
			"--tls-acme", "--tls-acme-directory=" + pebble.Directory, "--tls-acme-ca-file=" + pebble.CAFile,
			"--tls-acme-email=operator@phone.test",
			"--tls-redirect-listen=127.0.0.1:" + strconv.Itoa(pebble.HTTPPort),
		},
	}
	server := startTLS(t, l)
	var serial string
	process.Eventually(t, "a certificate", func() (err error) {
		serial, err = serialAt(server.address, "phone.test", roots)
		return err
	})
	server.stderr.Wait(t, `"certificate issued"`, `"tenant":"phone.test"`)
	server.readiness(t, http.StatusOK, `"tls"`)
	response, err := http.Get(server.operators + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	metrics, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`dialtone_tls_certificate_expiry_timestamp_seconds{listener="public",tenant="phone.test"} 1.`,
		`dialtone_tls_certificate_order_failures{tenant="phone.test"} 0`,
	} {
		if !strings.Contains(string(metrics), line) {
			t.Errorf("/metrics does not have %s", line)
		}
	}
	out, err := exec.Command(binary(t), "stats", "--data", data).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "certificate phone.test  ") ||
		!strings.Contains(string(out), "valid until "+time.Now().UTC().AddDate(0, 0, 90).Format("2006-")) {
		t.Errorf("stats: %v, %s", err, out)
	}
	writesCertificate(t, serial, "phone.test", "--data", data)
	server.mustStop(t)
	pebble.Stop(t)
	server = startTLS(t, l)
	if got, err := serialAt(server.address, "phone.test", roots); err != nil || got != serial {
		t.Errorf("after a restart: %s, %v, want %s", got, err, serial)
	}
	server.mustStop(t)
}

// forEveryUser returns copies of files that every user can read.
func forEveryUser(t *testing.T, files ...string) (copies []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dialtone-tls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	err = os.Chmod(dir, 0o755)
	for _, file := range files {
		text, readErr := os.ReadFile(file)
		name := filepath.Join(dir, filepath.Base(file))
		err = errors.Join(err, readErr, os.WriteFile(name, text, 0o644), os.Chmod(name, 0o644))
		copies = append(copies, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return copies
}

// writesCertificate checks that "tenant certificate" writes the certificate with a serial number,
// with its key, and writes nothing the second time.
func writesCertificate(t *testing.T, serial string, args ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "phone.pem")
	write := func(want string, mode os.FileMode, more ...string) {
		t.Helper()
		out := string(mustOutput(t, slices.Concat([]string{"tenant", "certificate", "--to", file}, args, more)...))
		if !strings.HasPrefix(out, want) {
			t.Errorf("it prints %s, want %s", out, want)
		}
		pair, err := tls.LoadX509KeyPair(file, file)
		if err != nil {
			t.Fatal(err)
		}
		if got := pair.Leaf.SerialNumber.String(); got != serial {
			t.Errorf("the file has the certificate %s, want %s", got, serial)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v, %v: want the mode %04o", info.Mode(), err, mode)
		}
	}
	write("wrote "+file, 0o600)
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	write(file+" is up to date", 0o600)
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that is up to date was written again (%v)", err)
	}
	if err := os.WriteFile(file, []byte("an older one"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("replaced "+file, 0o600)
	own, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	write(file+" is up to date", 0o640, "--group", own.Name)
	if out, err := exec.Command(binary(t), slices.Concat([]string{"tenant", "certificate", "--to", file}, args,
		[]string{"--group", "no such group"})...).CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "there is no group no such group") {
		t.Errorf("%v: %s", err, out)
	}
}

// With SIPS, deploy/kamailio/http.cfg uses the certificate in tls.cfg for phones, and a new one
// after "kamcmd tls.reload".
func TestKamailioSIPS(t *testing.T) {
	a := tlstest.NewAuthority(t)
	issue := func() string {
		cert, key := a.Issue(t, "phones", time.Time{}, "phone.example.org")
		text := ""
		for _, path := range []string{cert, key} {
			part, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text += string(part)
		}
		return text
	}
	address := process.Address(t)
	var file, control string
	s := phonetest.Kamailio(t, func(s *phonetest.Server) string {
		file, control = s.Write(t, "phones.pem", issue()), "unix:"+filepath.Join(s.Dir, "ctl")
		tlsConfig := s.Write(t, "tls.cfg", phonetest.Config(t, "kamailio/tls.cfg",
			"/etc/kamailio/phone.example.org.pem", file))
		return phonetest.Config(t, "kamailio/http.cfg", "127.0.0.1:5060", fmt.Sprintf("127.0.0.1:%d", s.Port),
			`include_file "directory.cfg"`, `#!define DIRECTORY "dialtone=>http://kamailio:x@127.0.0.1:9"`,
			"##!define SIPS", "#!define SIPS", "0.0.0.0:5061", address, "/etc/kamailio/tls.cfg", tlsConfig,
			`loadmodule "ctl.so"`, `loadmodule "ctl.so"`+"\nmodparam(\"ctl\", \"binrpc\", \""+control+"\")")
	})
	shown := func() string {
		t.Helper()
		serial, err := serialAt(address, "phone.example.org", a.Roots)
		if err != nil {
			t.Fatal(err)
		}
		return serial
	}
	first := shown()
	s.Write(t, filepath.Base(file), issue())
	if again := shown(); again != first {
		t.Error("the certificate changes without a command")
	}
	kamcmd := exec.Command(process.Find(t, "kamcmd"), "-s", control, "tls.reload")
	if out, err := kamcmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if shown() == first {
		t.Error("tls.reload does not read the certificate again")
	}
}

// The units that give Kamailio the certificate are valid.
func TestCertificateUnits(t *testing.T) {
	analyze := installed(t, "systemd-analyze")
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"dialtone-certificate.service", "dialtone-certificate.timer"} {
		// The programs are not installed where the test runs.
		text := strings.NewReplacer("/usr/bin/dialtone", "/bin/true", "/usr/sbin/kamcmd", "/bin/true").Replace(
			deployText(t, "kamailio/"+name))
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	verify := exec.Command(analyze, append([]string{"verify", "--man=no"}, paths...)...)
	verify.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if out, err := verify.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// deploy/kamailio/http.cfg queries a listener with TLS, with its own client certificate.
func TestKamailioOverTLS(t *testing.T) {
	a := tlstest.NewAuthority(t)
	cert, key := a.Issue(t, "dialtone", time.Time{}, "localhost")
	clientCert, clientKey := a.Issue(t, "kamailio", time.Time{})
	data := filepath.Join(t.TempDir(), "data")
	server := start(t, launch{data: data})
	v := newVisitor(server.address, "")
	defer v.leave()
	wantStatus(t, v, "alex", http.StatusOK)
	messages, err := messagesIn(filepath.Join(data, "pickup"))
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	if status, _, err := v.open(messages[0].link); err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	server.mustStop(t)
	token := secrets(t, data, "directory", "token", "add", "sip", "--tenant", "localhost")[0]
	flags := []string{"--ops-tls-cert=" + cert, "--ops-tls-key=" + key, "--ops-tls-client-ca=" + a.File}
	server = start(t, launch{data: data, flags: flags})
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(server.operators, "https://"))
	public := forEveryUser(t, a.File, clientCert, clientKey) // Kamailio does not run as root
	kamailio := func(replace ...string) *phonetest.Phone {
		s := phonetest.DeployedKamailio(t, "http.cfg", append([]string{
			`include_file "directory.cfg"`,
			`#!define DIRECTORY "dialtone=>https://kamailio:` + token + `@localhost:` + port + `"`,
			`alias="phone.example.org"`, `alias="localhost"`, `"connection_timeout", 2`, `"connection_timeout", 30`,
			"##!define TLS", "#!define TLS", "/etc/kamailio/dialtone-ca.pem", public[0],
			"/etc/kamailio/kamailio.pem", public[1], "/etc/kamailio/kamailio.key", public[2],
		}, replace...)...)
		return &phonetest.Phone{Server: s, User: "alex", Domain: "localhost", Password: password("alex")}
	}
	kamailio().Registers(t, 200)
	// Without its certificate, Kamailio gets no answer.
	kamailio(`modparam("http_client", "client_cert"`, `#modparam("http_client", "client_cert"`).Registers(t, 503)
}
