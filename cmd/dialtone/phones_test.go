package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/process"
)

// phoneWords is a difficult password like secretWords, but without a character beyond U+FFFF,
// because JsSIP 3.13 hashes those differently (docs/operating.md).
const phoneWords = `sieben Zwölftel: "grün" & mehr`

// TestPhones tests the purpose of the platform: a person signs up in a browser, opens the link, and
// has a phone that rings, with one user name and password and without copying settings. Browser,
// phones, registrar and TURN server are real.
func TestPhones(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	operators := process.Address(t)
	p := start(t, launch{data: data, flags: []string{"--dev", "--ops-listen", operators}})
	tap := newTap(t, p.address)
	relay := newCoturn(t, secrets(t, data, "turn", "secret")...)
	token := secrets(t, data, "directory", "token", "add", "registrar", "--tenant", "localhost")
	registrar := newRegistrar(t, "http://"+operators, token[0])
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product",
		"Example Phones", "--data", data,
		"--sip-server", registrar.udp, "--sip-transport", "UDP", "--sip-websocket", registrar.websocket,
		"--turn-uri", "turn:127.0.0.1:"+strconv.Itoa(relay.Port)+"?transport=udp")
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b := newWindow(t, tap.base) // the screen is scanned
	var line string

	b.step("After signup, the phone is refused", func() {
		b.visit("/signup.html")
		b.fill("user", "alex", "name", "Älex 🙂", "email", "alex@example.org", "password", phoneWords)
		b.answer()
		b.click("#submit")
		b.until(`!sent.hidden`)
		line = string(mustOutput(t, "provision", "alex", "--tenant", "localhost", "--format",
			"baresip", "--data", data))
		if said := baresip(t, line, phoneWords); !strings.Contains(said, "401 Unauthorized") {
			t.Errorf("before the link was opened, baresip prints %s", said)
		}
	})
	b.step("After the link is opened, the phone registers with the chosen password", func() {
		b.visit("/dev/mail")
		b.click(`a[href*="/activate.ashx?token="]`)
		b.until(`document.querySelector("h1").textContent === "Account activated"`)
		if said := baresip(t, line, phoneWords); !strings.Contains(said, "200 OK") {
			t.Errorf("baresip prints %s", said)
		}
		if said := baresip(t, line, phoneWords+"!"); !strings.Contains(said, "401 Unauthorized") {
			t.Errorf("with a wrong password, baresip prints %s", said)
		}
	})
	b.step("After signing in, the browser can use the TURN server", func() {
		b.signIn("alex", phoneWords)
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		b.reloadUntil(`document.querySelector(".asked li")`) // once it is written
		b.want(`[...document.querySelectorAll(".asked li")].map((e) => e.innerText.replace(/\s+/g, " ")
			.replace(/ (less than a minute|about [0-9]+ minutes?) ago$/, " …")).join()`, "registrar: …")
		shown := string(mustOutput(t, "account", "show", "alex", "--data", data))
		if !regexp.MustCompile(`(?m)^look-up +\S+Z by registrar \(credential\)$`).MatchString(shown) {
			t.Errorf("account show prints\n%s", shown)
		}
		b.check("account")
		b.do(`window.relayed = (async () => {
			const { uris, username, password } = await (await fetch("/turn")).json();
			const iceServers = [{ urls: uris, username, credential: password }];
			const peer = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
			peer.createDataChannel("x");
			peer.onicecandidate = ({ candidate }) => { if (candidate?.candidate) document.title = candidate.type; };
			peer.onicecandidateerror = ({ errorCode, errorText }) => { document.title = errorCode + " " + errorText; };
			await peer.setLocalDescription();
		})()`)
		b.until(`document.title === "relay"`)
	})
	b.step("Linphone scans the QR code and asks only for the password", func() {
		b.program("linphone")
		b.check("provision-linphone")
		b.shot("provision")
		link := b.get(`document.getElementById("v-link").textContent`)
		for _, scheme := range []string{"light", "dark"} {
			if got := b.scan(scheme); got != link {
				t.Errorf("on a %s page, the code contains %q, want the link %q", scheme, got, link)
			}
		}
		linphone(t, link, phoneWords, registrar)
		b.visit(strings.TrimPrefix(link, tap.base))
		b.until(`document.querySelector("h1").textContent === "This link no longer works"`)
		b.check("provision-gone")
	})
	b.step("For baresip, the page shows the line that the command prints", func() {
		b.program("baresip")
		b.check("provision-baresip")
		b.want(`document.getElementById("v-text").textContent`, line)
		b.want(`document.querySelectorAll("[data-copy]:not([hidden])").length`, "1")
	})
	b.step("For JsSIP, the page shows a script that registers", func() {
		b.program("jssip")
		b.check("provision-jssip")
		jssip(t, b.get(`document.getElementById("v-text").textContent`), phoneWords)
		registrar.registered(t, "alex", "JsSIP")
	})
	b.step("An operator disables the account, and the phone is refused a second later", func() {
		command(t, "account", "disable", "alex", "--tenant", "localhost", "--data", data)
		// Look-ups are cached for a second, so a phone may still register at first.
		deadline := time.Now().Add(5 * time.Second)
		said := baresip(t, line, phoneWords)
		for strings.Contains(said, "200 OK") && time.Now().Before(deadline) {
			said = baresip(t, line, phoneWords)
		}
		if !strings.Contains(said, "401 Unauthorized") {
			t.Errorf("baresip prints %s", said)
		}
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html"`)
	})
	b.end()
	tap.neverCarried(t, phoneWords)
	p.mustStop(t)
}

// program chooses a program on the account page, which sets up Linphone by default.
func (b *browser) program(format string) {
	b.t.Helper()
	b.visit("/account.html")
	if format == "linphone" {
		return
	}
	if b.get(`String(document.querySelector(".manual").open)`) == "false" { // it stays open in a tab
		b.click(".manual summary")
	}
	b.click(`a[href="/provision?format=` + format + `"]`)
	b.until(`location.pathname === "/provision" && document.readyState === "complete"`)
}

// scan returns the content of the QR code on the screen.
func (b *browser) scan(scheme string) string {
	b.t.Helper()
	b.succeed(b.engine.setScheme(scheme))
	png, err := b.engine.screenshot()
	b.succeed(err)
	file := filepath.Join(b.t.TempDir(), "screen.png")
	if err := os.WriteFile(file, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
	out, err := exec.Command(process.Find(b.t, "zbarimg"), "--quiet", "--raw", file).Output()
	if err != nil {
		b.t.Errorf("no code can be read on a %s page: %v", scheme, err)
	}
	return strings.TrimSpace(string(out))
}

func mustOutput(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Env = []string{}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dialtone %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// registrar is a Kamailio with its addresses.
type registrar struct {
	*phonetest.Server
	udp, websocket string
}

// newRegistrar runs testdata/phones/kamailio.cfg, which looks up every credential at the ops
// listener.
func newRegistrar(t *testing.T, directory, token string) *registrar {
	t.Helper()
	file, err := os.ReadFile("testdata/phones/kamailio.cfg")
	if err != nil {
		t.Fatal(err)
	}
	websocket := process.Address(t)
	_, port, _ := strings.Cut(websocket, ":")
	s := phonetest.Kamailio(t, func(s *phonetest.Server) string {
		return strings.NewReplacer("@PORT@", strconv.Itoa(s.Port), "@WSPORT@", port,
			"@DIRECTORY@", directory, "@TOKEN@", token).Replace(string(file))
	})
	return &registrar{s, fmt.Sprintf("127.0.0.1:%d", s.Port), "ws://" + websocket}
}

// registered waits until a user's phone of a kind is registered.
func (k *registrar) registered(t *testing.T, user, agent string) {
	t.Helper()
	k.WaitLog(t, "registered sip:"+user+"@localhost by "+agent)
}

// baresip registers with a line of its configuration and a typed password, and returns its output.
func baresip(t *testing.T, line, password string) string {
	t.Helper()
	path := process.Find(t, "baresip")
	modules := ""
	for _, dir := range []string{"/usr/lib/baresip/modules", "/usr/lib64/baresip/modules",
		"/usr/local/lib/baresip/modules", "/opt/homebrew/lib/baresip/modules"} {
		if _, err := os.Stat(dir); err == nil {
			modules = dir
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"accounts": line,
		"config": "module_path " + modules +
			"\nmodule_app account.so\nmodule_app menu.so\nsip_listen 127.0.0.1:0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := new(process.Log)
	in, end := runs(t, out, nil, path, "-f", dir)
	defer end()
	out.Wait(t, "enter password for sip:alex@localhost")
	io.WriteString(in, password+"\n")
	return out.Wait(t, "200 OK", "401 Unauthorized", "Service Unavailable", "failed")
}

// linphone fetches its settings from a link and registers with a typed password. Its ports are set
// so that it does not use the default ones.
func linphone(t *testing.T, link, password string, at *registrar) {
	t.Helper()
	home := t.TempDir()
	settings := "[misc]\nconfig-uri=" + link + "\n[sip]\nsip_port=" + strconv.Itoa(process.Port(t)) +
		"\nsip_tcp_port=-1\nsip_tls_port=-1\nregister_only_when_network_is_up=0\n"
	if err := os.WriteFile(filepath.Join(home, "linphonerc"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(home, ".local/share/linphone"), 0o700); err != nil {
		t.Fatal(err)
	}
	out := new(process.Log)
	in, end := runs(t, out, []string{"HOME=" + home}, process.Find(t, "linphonec"), "-c",
		filepath.Join(home, "linphonerc"))
	defer end()
	out.Wait(t, "Password for alex on localhost:")
	io.WriteString(in, password+"\n")
	at.registered(t, "alex", "Linphone")
	// The link works once, so it must not be kept for the next start.
	io.WriteString(in, "quit\n")
	waitUntil(t, func() bool {
		kept, err := os.ReadFile(filepath.Join(home, "linphonerc"))
		return err == nil && bytes.Contains(kept, []byte("reg_identity")) &&
			!bytes.Contains(kept, []byte("config-uri"))
	})
}

// jssip runs the script for a web page in Node, and enters the password when it is asked for.
func jssip(t *testing.T, script, password string) {
	t.Helper()
	modules, err := filepath.Glob("../../.tools/jssip-*/node_modules")
	if err != nil || len(modules) != 1 {
		t.Fatal("this test needs JsSIP: make test fetches it")
	}
	cmd := exec.Command(process.Find(t, "node"), "testdata/phones/jssip.cjs")
	cmd.Env = []string{"NODE_PATH=" + modules[0], "PASSWORD=" + password}
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil ||
		string(out) != "asked: Password of alex@localhost\nregistered\n" {
		t.Errorf("JsSIP: %v\n%s", err, out)
	}
}

// runs starts a program that asks for input, with its children. They end with the test, or earlier
// with end.
func runs(
	t *testing.T, out *process.Log, env []string, path string, args ...string,
) (in io.Writer, end func()) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := process.Run(t, cmd, out, func() error { return nil })
	return in, p.Kill
}
