package smtptest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/process"
)

// Postfix is a running Postfix with its own directory. It accepts messages from clients that log in
// over TLS, queues them, and forwards them to one server.
type Postfix struct {
	// StartTLS and TLS are its addresses for STARTTLS and for TLS from the first byte.
	StartTLS, TLS string
	// CA is the file with the authority of its certificate. User and Password are its only login.
	CA, User, Password string

	t      testing.TB
	dir    string
	config string
}

// PostfixUnavailable returns why Postfix cannot run here, or an empty string.
func PostfixUnavailable() string {
	if _, err := exec.LookPath("postfix"); err != nil {
		return "Postfix is not installed; install it with tools/need postfix, if there is no other mail server"
	}
	if os.Geteuid() != 0 {
		return "Postfix must be started by root"
	}
	return ""
}

// StartPostfix starts a Postfix that forwards to the SMTP server at an address. access are lines of
// its access table, such as "bad@mail.test REJECT 5.1.1 nobody". It stops with the test.
func StartPostfix(t testing.TB, nextHop string, access ...string) *Postfix {
	t.Helper()
	dir := t.TempDir()
	p := &Postfix{
		t:        t,
		dir:      dir,
		config:   filepath.Join(dir, "etc"),
		CA:       filepath.Join(dir, "ca.pem"),
		User:     "alex",
		Password: "a pass phrase",
		StartTLS: process.Address(t),
		TLS:      process.Address(t),
	}
	p.writeConfig(nextHop, access)
	p.run("postfix", "-c", p.config, "start")
	t.Cleanup(func() {
		exec.Command("postfix", "-c", p.config, "stop").Run()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("Postfix's log:\n%s", log)
		}
	})
	for _, address := range []string{p.StartTLS, p.TLS} {
		process.Eventually(t, "Postfix accepts connections", process.Answers(address))
	}
	return p
}

func (p *Postfix) writeConfig(nextHop string, access []string) {
	p.t.Helper()
	host, port, _ := net.SplitHostPort(nextHop)
	_, trusted, private := Certificate(p.t, time.Now().Add(24*time.Hour), "127.0.0.1")
	for _, d := range []string{"etc", "queue", "data"} {
		p.must(os.Mkdir(filepath.Join(p.dir, d), 0o755))
	}
	for name, text := range map[string]string{
		"etc/main.cf": p.fill(`compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
maillog_file = DIR/log
maillog_file_prefixes = DIR
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.test
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
default_transport = smtp:[` + host + `]:` + port + `
relay_transport = $default_transport
smtp_destination_concurrency_limit = 2
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
smtpd_tls_cert_file = DIR/relay.pem
smtpd_tls_key_file = DIR/relay.key
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:` + startAuthServer(p.t, map[string]string{p.User: p.Password}) + `
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access texthash:DIR/access, permit_sasl_authenticated, reject
smtpd_delay_reject = yes
`),
		"etc/master.cf": p.fill(strings.ReplaceAll(masterTemplate, "WRAPPEDPORT", portOf(p.TLS))),
		"access":        strings.Join(access, "\n") + "\n",
		"relay.pem":     string(trusted), "relay.key": string(private), "ca.pem": string(trusted),
	} {
		p.must(os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644))
	}
	owner, err := user.Lookup("postfix")
	p.must(err)
	uid, err := strconv.Atoi(owner.Uid)
	p.must(err)
	p.must(os.Chown(filepath.Join(p.dir, "data"), uid, -1))
	// The user that Postfix runs as must be able to enter the directory.
	for d := p.dir; d != filepath.Clean(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
		p.must(os.Chmod(d, 0o755))
	}
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// fill replaces the placeholders of a template.
func (p *Postfix) fill(text string) string {
	return strings.NewReplacer("DIR", p.dir, "STARTTLSPORT", portOf(p.StartTLS)).Replace(text)
}

const masterTemplate = `STARTTLSPORT inet n - n - - smtpd -o smtpd_tls_security_level=encrypt
WRAPPEDPORT inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

func (p *Postfix) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *Postfix) run(program string, args ...string) string {
	p.t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		p.t.Fatalf("%s: %v\n%s%s", program, err, out, log)
	}
	return string(out)
}

// Sendmail is the command that puts a message into the queue of this Postfix.
func (p *Postfix) Sendmail() []string { return []string{"/usr/sbin/sendmail", "-C", p.config} }

// Queue returns the messages that Postfix has still to send, as postqueue lists them.
func (p *Postfix) Queue() string {
	p.t.Helper()
	return p.run("postqueue", "-c", p.config, "-p")
}

// Flush makes Postfix attempt the messages in its queue. It skips one that it is still working on.
func (p *Postfix) Flush() {
	p.t.Helper()
	p.run("postqueue", "-c", p.config, "-f")
}

// Log returns the log of Postfix.
func (p *Postfix) Log() string {
	log, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(log)
}
