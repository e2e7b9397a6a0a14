package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/smtptest"
)

// examined runs the command and returns its findings. Entries resolver= and ca-file= are flags.
func examined(t *testing.T, environ ...string) (list []finding.Finding) {
	t.Helper()
	start := time.Now()
	args := []string{"doctor", "--json"}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); name == "resolver" || name == "ca-file" {
			args = append(args, "--"+name, value)
		}
	}
	environ = slices.DeleteFunc(slices.Clone(environ), func(s string) bool { return strings.HasPrefix(s, "resolver=") })
	status, out, stderr := runCommand(t, environ, args...)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v: %s%s", err, out, stderr)
	}
	isFault := func(f finding.Finding) bool { return f.Level == finding.Fault }
	if want := slices.ContainsFunc(list, isFault); (status == exitFailed) != want || status > exitFailed {
		t.Errorf("status %d for %+v", status, list)
	}
	return list
}

// wantFinding checks that there is a finding of a check whose cause contains a text.
func wantFinding(t *testing.T, list []finding.Finding, level finding.Level, check, cause string) {
	t.Helper()
	if !slices.ContainsFunc(list, func(f finding.Finding) bool {
		return f.Level == level && f.Check == check && strings.Contains(f.Cause, cause)
	}) {
		t.Errorf("no %s of %s with %q in %+v", level, check, cause, list)
	}
}

// Run as root, the command finds files of root that the server's user cannot use.
func TestDoctorFindsWrongOwners(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.start().mustStop(t)
	environ := []string{"DIALTONE_DATA=" + s.dir, "DIALTONE_OPS_LISTEN=127.0.0.1:9", "DIALTONE_LISTEN=127.0.0.1:9"}
	for _, f := range examined(t, environ...) {
		if f.Level == finding.Fault {
			t.Errorf("before: %+v", f)
		}
	}
	database := filepath.Join(s.dir, "dialtone.db")
	s.must(os.Chown(database, 0, 0))
	security := filepath.Join(filepath.Dir(s.dir), "security.txt")
	s.must(os.WriteFile(security, []byte("Contact: mailto:a@example.org\n"), 0o600))
	list := examined(t, append(environ, "DIALTONE_HTTP_SECURITY_TXT="+security)...)
	wantFinding(t, list, finding.Fault, "files", database+" belongs to the user root, but the data directory to ")
	wantFinding(t, list, finding.Fault, "files", "cannot read "+security+" (http.security_txt)")

	// The printed command repairs it.
	i := slices.IndexFunc(list, func(f finding.Finding) bool { return strings.Contains(f.Cause, security) })
	if i < 0 {
		t.FailNow()
	}
	_, command, _ := strings.Cut(list[i].Next, ": ")
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v, %s", command, err, out)
	}
	for _, f := range examined(t, append(environ, "DIALTONE_HTTP_SECURITY_TXT="+security)...) {
		if strings.Contains(f.Cause, security) {
			t.Errorf("after %s: %+v", command, f)
		}
	}
}

// Each fault of the store has its own advice. The owner's mode bits of the data directory count
// too, and the command that doctor prints repairs it.
func TestDoctorAdvisesOnStore(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.start().mustStop(t)
	environ := []string{"DIALTONE_DATA=" + s.dir, "DIALTONE_OPS_LISTEN=127.0.0.1:9", "DIALTONE_LISTEN=127.0.0.1:9"}
	s.must(os.Chmod(s.dir, 0o500))
	list := examined(t, environ...)
	wantFinding(t, list, finding.Fault, "files", "the data directory "+s.dir+" has the mode 0500, so its owner nobody ")
	wantFinding(t, list, finding.Fault, "store", s.dir+" has mode 0500 and belongs to the user nobody and the group ")
	repaired := false
	for _, f := range list {
		command, ok := strings.CutPrefix(f.Next, "run: chmod ")
		if ok && strings.Contains(f.Cause, "has the mode 0500") {
			s.must(exec.Command("sh", "-c", "chmod "+command).Run())
			repaired = true
		}
	}
	if !repaired {
		t.Fatalf("nothing to run in %+v", list)
	}
	advice := func(check, says string) {
		t.Helper()
		for _, f := range examined(t, environ...) {
			if f.Level == finding.Fault && f.Check == check && strings.Contains(f.Next, says) {
				return
			}
		}
		t.Errorf("no %s with %q in %+v", check, says, examined(t, environ...))
	}
	for _, f := range examined(t, environ...) {
		if f.Level == finding.Fault {
			t.Errorf("repaired: %+v", f)
		}
	}
	key := filepath.Join(s.dir, "keys", "seal.key")
	s.must(os.Rename(key, key+".aside"))
	advice("keys", "put a copy of the key back at "+key)
	other := newService(t)
	other.command("tenant", "add", "localhost")
	text, err := os.ReadFile(filepath.Join(other.dir, "keys", "seal.key"))
	s.must(err)
	s.must(os.WriteFile(key, text, 0o600))
	s.must(os.Chown(key, serviceUser, serviceGroup))
	advice("keys", "put the seal.key of this store at "+key)
	s.must(os.Rename(key+".aside", key))
	database := filepath.Join(s.dir, "dialtone.db")
	s.must(os.Chown(database, 0, 0))
	advice("store", "give everything in the data directory to one user")
	s.must(os.Chown(database, serviceUser, serviceGroup))
	for _, flag := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY} {
		if err := unix.Mount(s.dir, s.dir, "", flag, ""); err != nil {
			t.Fatalf("mount: %v", err)
		}
	}
	t.Cleanup(func() { s.must(unix.Unmount(s.dir, unix.MNT_DETACH)) })
	advice("store", "make the file system writable: findmnt -T ")
}

// An empty or missing data directory with an existing configuration may be a volume that is not
// mounted.
func TestDoctorAsksForVolume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "dialtone.toml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("data = %q\nlisten = \"127.0.0.1:9\"\n[ops]\n"+
		"listen = \"127.0.0.1:9\"\n", data)), 0o600); err != nil {
		t.Fatal(err)
	}
	asks := func(environ ...string) bool {
		return slices.ContainsFunc(examined(t, environ...), func(f finding.Finding) bool {
			return f.Check == "store" && strings.Contains(f.Next, "is it a volume that is not mounted?")
		})
	}
	for _, state := range []string{"missing", "empty"} {
		if !asks("DIALTONE_CONFIG=" + file) {
			t.Errorf("%s: it does not ask", state)
		}
		if err := os.MkdirAll(data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if asks("DIALTONE_DATA=" + data) {
		t.Error("without a configuration, it asks")
	}
}

// The command does not change a store of an older version, and finds programs of another version on
// the same database.
func TestDoctorOnPostgres(t *testing.T) {
	t.Parallel()
	cluster := postgrestest.Shared(t)
	url := cluster.Database(t)
	environ := []string{
		"DIALTONE_DATABASE=" + url, "DIALTONE_DATA=" + t.TempDir(), "DIALTONE_OPS_LISTEN=127.0.0.1:9",
		"DIALTONE_LISTEN=127.0.0.1:9",
	}
	wantFinding(t, examined(t, environ...), finding.Fault, "store", "there is no store in the database")
	var out strings.Builder
	if status := run(t.Context(), []string{"tenant", "add", "localhost"}, environ, &out, &out); status != 0 {
		t.Fatal(out.String())
	}
	for _, f := range examined(t, environ...) {
		if f.Check == "versions" || f.Level == finding.Fault {
			t.Errorf("with one version: %+v", f)
		}
	}
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	other, err := postgres.Open(t.Context(), "", url+separator+"application_name=dialtone%200.0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	wantFinding(t, examined(t, environ...), finding.Warning, "versions", "0.0.1, ")

	version := func() (n int64) {
		t.Helper()
		n, err := postgres.SchemaVersion(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	newest := version()
	cluster.Exec(t, url, `DELETE FROM schema_version WHERE version = $1`, newest)
	before := version()
	wantFinding(t, examined(t, environ...), finding.Warning, "store", fmt.Sprintf("has version %d", before))
	if version() != before {
		t.Error("the schema was updated")
	}
}

// The sections that findings name exist.
func TestDoctorNamesSections(t *testing.T) {
	for _, s := range finding.Sections {
		page, anchor, _ := strings.Cut(s.Path(), "#")
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(anchorsOf(string(text)), anchor) {
			t.Errorf("%s has no section %s", page, anchor)
		}
	}
}

// anchorsOf returns the anchors of the headings of a page.
func anchorsOf(text string) (anchors []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		anchor := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		anchors = append(anchors, regexp.MustCompile(`[^a-z0-9-]`).ReplaceAllString(anchor, ""))
	}
	return anchors
}

// The command finishes in time, with findings, even if all its peers accept connections and do not
// answer.
func TestDoctorEndsInTime(t *testing.T) {
	t.Parallel()
	silent := func() string {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	resolver, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Close()
	environ := []string{
		"DIALTONE_DATA=" + t.TempDir(), "DIALTONE_OPS_LISTEN=" + silent(), "DIALTONE_LISTEN=" + silent(),
		"DIALTONE_MAIL_RELAY=smtp://" + silent(),
	}
	for _, host := range []string{"localhost", "phone.invalid"} {
		var out strings.Builder
		if status := run(t.Context(), []string{"tenant", "add", host}, environ, &out, &out); status != 0 {
			t.Fatal(out.String())
		}
	}
	list := examined(t, append(environ, "resolver="+resolver.LocalAddr().String())...)
	wantFinding(t, list, finding.Fault, "relay", "")
	wantFinding(t, list, finding.Warning, "dns", "phone.invalid cannot be looked up")
	wantFinding(t, list, finding.Warning, "public url", "http://localhost:")
	wantFinding(t, list, finding.Warning, "server", "no server runs on this machine")
	list = examined(t, append(environ, "DIALTONE_DATABASE=postgres://dialtone@"+silent()+"/dialtone")...)
	wantFinding(t, list, finding.Fault, "store", "")
}

// A trusted proxy that does not report the client's address is found by the request to the public
// URL, whose host is resolved by the DNS server of --resolver.
func TestDoctorFindsSilentProxy(t *testing.T) {
	t.Parallel()
	dns := smtptest.DNS(t, map[string][]string{"example.com": {"127.0.0.1"}})
	const silent = "the proxy sends no X-Forwarded-For: all requests from 127.0.0.1"
	for _, sets := range []bool{false, true} {
		dir := t.TempDir()
		mustOutput(t, "tenant", "add", "localhost", "--data", dir)   // which start asks
		mustOutput(t, "tenant", "add", "example.com", "--data", dir) // the host of httptest's certificate
		p := start(t, launch{data: dir, env: []string{"DIALTONE_HTTP_TRUSTED_PROXIES=127.0.0.1"}})
		to, err := url.Parse("http://" + p.address)
		if err != nil {
			t.Fatal(err)
		}
		proxy := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			if sets {
				r.SetXForwarded()
			}
		}})
		defer proxy.Close()
		authority := filepath.Join(t.TempDir(), "ca.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
		if err := os.WriteFile(authority, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(proxy.Listener.Addr().String())
		mustOutput(t, "tenant", "set", "example.com", "--public-url", "https://example.com:"+port, "--data", dir)
		list := examined(t, "DIALTONE_DATA="+dir, "DIALTONE_LISTEN=127.0.0.1:9",
			"DIALTONE_OPS_LISTEN="+strings.TrimPrefix(p.operators, "http://"),
			"resolver="+dns, "ca-file="+authority)
		found := false
		for _, f := range list {
			found = found || f.Level == finding.Fault && f.Check == "server" && strings.HasPrefix(f.Cause, silent)
			if (f.Check == "public url" || f.Check == "dns") && strings.Contains(f.Cause, "example.com") {
				t.Errorf("with the DNS server that has the name: %+v", f)
			}
		}
		if found == sets {
			t.Errorf("the proxy sets the header: %v; found: %v in %+v", sets, found, list)
		}
		p.mustStop(t)
	}
}
