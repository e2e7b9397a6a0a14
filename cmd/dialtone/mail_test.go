package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"dialtone/internal/operator/opjson"
	"dialtone/internal/test/process"
	"dialtone/internal/test/smtptest"
)

// relayFixture runs a server that sends messages through a relay, and commands on its data directory.
type relayFixture struct {
	t     *testing.T
	data  string
	flags []string
	env   []string
	ops   string
	p     *serverProcess
}

func newRelayFixture(t *testing.T, env []string, flags ...string) *relayFixture {
	t.Helper()
	o := &relayFixture{
		t: t, data: filepath.Join(t.TempDir(), "data"), env: env, ops: process.Address(t),
	}
	o.flags = append(flags, "--ops-listen="+o.ops)
	return o
}

func (o *relayFixture) start() *serverProcess {
	o.t.Helper()
	o.p = start(o.t, launch{data: o.data, flags: o.flags, env: o.env})
	return o.p
}

func (o *relayFixture) signup(user string) {
	o.t.Helper()
	v := newVisitor(o.p.address, "")
	defer v.leave()
	if a, err := v.signup(user); err != nil || !a.OK {
		o.t.Fatalf("%v, %v", a, err)
	}
}

// command runs a command on the data directory.
func (o *relayFixture) command(args ...string) (string, error) {
	cmd := exec.Command(binary(o.t), append([]string{"--data", o.data}, args...)...)
	cmd.Env = o.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a command that must succeed.
func (o *relayFixture) must(args ...string) string {
	o.t.Helper()
	out, err := o.command(args...)
	if err != nil {
		o.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// list returns all messages by user.
func (o *relayFixture) list() map[string]opjson.Delivery {
	o.t.Helper()
	var list []opjson.Delivery
	if err := json.Unmarshal([]byte(o.must("mail", "list", "--all", "--json")), &list); err != nil {
		o.t.Fatal(err)
	}
	by := make(map[string]opjson.Delivery)
	for _, m := range list {
		by[m.User] = m
	}
	return by
}

func (o *relayFixture) until(what string, is func() bool) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), process.Timeout)
	defer cancel()
	if err := process.Poll(ctx, process.Holds(is)); err != nil {
		o.t.Fatalf("never: %s\n%s", what, o.p.stderr)
	}
}

// becomes waits until the message to a user has a state, and returns it.
func (o *relayFixture) becomes(user, state string) opjson.Delivery {
	o.t.Helper()
	o.until(user+"'s message is "+state, func() bool { return string(o.list()[user].State) == state })
	return o.list()[user]
}

// metrics returns the mail metrics by name with labels.
func (o *relayFixture) metrics() map[string]string {
	o.t.Helper()
	res, err := http.Get("http://" + o.ops + "/metrics")
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		o.t.Fatalf("%d, %v: %s", res.StatusCode, err, text)
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "dialtone_") {
			o.t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if err != nil {
		o.t.Error(err)
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok &&
			strings.HasPrefix(name, "dialtone_mail_") {
			values[name] = value
		}
	}
	return values
}

// arrived returns the message to a user that an SMTP server received, parsed by the tests' own
// parser.
func arrived(t *testing.T, s *smtptest.Server, user string) message {
	t.Helper()
	for _, m := range s.Messages() {
		if m.To == email(user) {
			// A server puts its trace in front (RFC 5321 section 4.4).
			_, raw, _ := strings.Cut(string(m.Data), "Date: ")
			parsed, err := parseMessage("Date: " + raw)
			if err != nil {
				t.Fatal(err)
			}
			return parsed
		}
	}
	t.Fatalf("no message arrived for %s", email(user))
	return message{}
}

func TestSendThroughPostfix(t *testing.T) {
	t.Parallel()
	if why := smtptest.PostfixUnavailable(); why != "" {
		t.Skip(why)
	}
	sink := smtptest.Start(t, smtptest.Options{})
	pf := smtptest.StartPostfix(t, sink.Address, email("bad")+" REJECT 5.1.1 nobody of that name",
		email("later")+" DEFER 4.2.1 mailbox busy")
	o := newRelayFixture(t, []string{"DIALTONE_MAIL_RELAY_PASSWORD=" + pf.Password},
		"--mail-relay=smtp+starttls://"+pf.User+"@"+pf.StartTLS, "--mail-relay-ca-file="+pf.CA)
	p := o.start()
	for _, user := range []string{"ann", "bad", "later"} {
		o.signup(user)
	}
	if m := o.becomes("ann", "sent"); !strings.Contains(m.Answer, "queued as") || m.Attempts != 1 ||
		m.Next != nil {
		t.Errorf("got %+v", m)
	}
	if m := o.becomes("bad", "failed"); !strings.HasPrefix(m.Answer, "RCPT: 554 5.1.1 ") {
		t.Errorf("got %+v", m)
	}
	if m := o.becomes("later", "deferred"); !strings.HasPrefix(m.Answer, "RCPT: 450 4.2.1 ") ||
		time.Until(*m.Next) < 50*time.Second {
		t.Errorf("got %+v", m)
	}
	o.until("Postfix delivers the message", func() bool { return sink.Accepted() == 1 })
	v := newVisitor(p.address, "")
	defer v.leave()
	if status, _, err := v.open(arrived(t, sink, "ann").link); err != nil || status != http.StatusOK {
		t.Errorf("the link: %d, %v", status, err)
	}
	if names, err := filepath.Glob(filepath.Join(o.data, "badmail", "*")); err != nil ||
		len(names) != 2 {
		t.Errorf("badmail has %q, %v", names, err)
	}
	m := o.metrics()
	for name, want := range map[string]string{
		`dialtone_mail_tries_total{outcome="sent"}`:      "1",
		`dialtone_mail_tries_total{outcome="failed"}`:    "1",
		`dialtone_mail_tries_total{outcome="deferred"}`:  "1",
		`dialtone_mail_queue_messages{state="deferred"}`: "1", `dialtone_mail_queue_messages{state="waiting"}`: "0",
		"dialtone_mail_pickup_files": "1", "dialtone_mail_relay_pause_seconds": "0",
	} {
		if m[name] != want {
			t.Errorf("%s is %q, want %s", name, m[name], want)
		}
	}
	for _, name := range []string{"dialtone_mail_queue_oldest_age_seconds",
		"dialtone_mail_pickup_oldest_age_seconds"} {
		if m[name] == "" || m[name] == "0" {
			t.Errorf("%s is %q", name, m[name])
		}
	}
	p.mustStop(t)
	if log := p.stderr.String(); strings.Contains(log, pf.Password) ||
		strings.Contains(log, email("bad")) {
		t.Errorf("the log has a password or an address:\n%s", log)
	}
}

func TestMailCommands(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	refuse := true
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, to string) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case at != smtptest.Rcpt || !refuse || strings.HasPrefix(to, "ann"):
			return nil
		case strings.HasPrefix(to, "late"):
			return smtptest.Reply(451, "4.7.1 \x1b[31mlater")
		}
		return smtptest.Reply(550, "5.1.1 nobody")
	}})
	o := newRelayFixture(t, nil, "--mail-relay=smtp://"+s.Address)
	p := o.start()
	for _, user := range []string{"ann", "bad", "worse", "late"} {
		o.signup(user)
	}
	o.becomes("ann", "sent")
	bad, late := o.becomes("bad", "failed"), o.becomes("late", "deferred")
	worse := o.becomes("worse", "failed")
	link := arrived(t, s, "ann").link
	_, token, _ := strings.Cut(link, "token=")

	if out := o.must("mail", "list"); !strings.HasPrefix(out, "ID ") ||
		strings.Contains(out, email("ann")) || !strings.Contains(out, bad.ID+"  activation  failed ") ||
		!strings.Contains(out, "550 5.1.1 nobody") || strings.Contains(out, "\x1b") {
		t.Errorf("the list is\n%s", out)
	}
	badFile, err := os.ReadFile(filepath.Join(o.data, "badmail", bad.ID+".eml"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseMessage(string(badFile))
	if err != nil {
		t.Fatal(err)
	}
	_, badToken, _ := strings.Cut(parsed.link, "token=")
	for _, args := range [][]string{
		{"show", bad.ID}, {"show", bad.ID, "--json"}, {"show", "<" + bad.ID + "@localhost>"},
		{"show", bad.ID + ".eml"}, {"list", "--all"}, {"list", "--all", "--json"},
	} {
		out := o.must(append([]string{"mail"}, args...)...)
		if strings.Contains(out, token) || strings.Contains(out, badToken) ||
			strings.Contains(out, "activate.ashx") {
			t.Errorf("%v shows a link:\n%s", args, out)
		}
		if args[0] == "show" &&
			(!strings.Contains(out, email("bad")) ||
				!strings.Contains(out, "Activate your account") ||
				!strings.Contains(out, "550 5.1.1 nobody")) {
			t.Errorf("%v prints\n%s", args, out)
		}
	}
	for _, c := range []struct {
		args  []string
		words string
	}{
		{[]string{"show", strings.Repeat("0", 32)}, "there is no such message"},
		{[]string{"show", "x"}, "32 hex digits"},
		{[]string{"retry"}, "give a message ID or --all"},
		{[]string{"retry", bad.ID, "--all"}, "give a message ID or --all"},
		{[]string{"retry", o.list()["ann"].ID}, "it is sent"},
		{[]string{"discard", o.list()["ann"].ID}, "was sent"},
	} {
		if out, err := o.command(append([]string{"mail"}, c.args...)...); err == nil ||
			!strings.Contains(out, c.words) {
			t.Errorf("%v: %v, %s", c.args, err, out)
		}
	}

	mu.Lock()
	refuse = false
	mu.Unlock()
	if out := o.must("mail", "discard", worse.ID, "--reason", "asked by phone"); !strings.Contains(out, "discarded") ||
		!strings.Contains(out, "discarded by an operator; last answer: RCPT: 5") ||
		!strings.Contains(out, "kind        activation\n") {
		t.Errorf("mail discard prints %s", out)
	}
	if out := o.must("audit", "list", "--action", "message.discard"); !strings.Contains(out, "asked by phone") {
		t.Errorf("the trail has %s", out)
	}
	o.must("mail", "retry", bad.ID)
	o.becomes("bad", "sent")
	if got := arrived(t, s, "bad").link; got != parsed.link {
		t.Errorf("the link is %s, want %s", got, parsed.link)
	}
	if m := o.list()["late"]; m.State != late.State {
		t.Errorf("got %+v", m)
	}
	if out := o.must("mail", "retry", "--all"); !strings.Contains(out, "messages to retry: 1\n") {
		t.Errorf("mail retry --all prints %s", out)
	}
	o.becomes("late", "sent")
	for _, dir := range []string{"pickup", "badmail"} {
		o.until(dir+" is empty", func() bool {
			names, err := filepath.Glob(filepath.Join(o.data, dir, "*"))
			return err == nil && len(names) == 0
		})
	}
	p.mustStop(t)
	if out := o.must("verify"); !strings.Contains(out, "no faults found") {
		t.Errorf("verify: %s", out)
	}
}

// Signing in with the right password tells a person that the message has failed. Then the person can
// correct the address.
func TestSignInReportsFailedMessage(t *testing.T) {
	t.Parallel()
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, to string) error {
		switch {
		case at == smtptest.Rcpt && strings.HasPrefix(to, "bad"):
			return smtptest.Reply(550, "5.1.1 nobody")
		case at == smtptest.Rcpt && strings.HasPrefix(to, "late"):
			return smtptest.Reply(451, "4.7.1 later")
		}
		return nil
	}})
	o := newRelayFixture(t, nil, "--mail-relay=smtp://"+s.Address)
	p := o.start()
	v := newVisitor(p.address, "")
	defer v.leave()
	for user, state := range map[string]string{"bad": "failed", "late": "deferred", "ann": "sent"} {
		o.signup(user)
		o.becomes(user, state)
		a, err := v.signIn(user, password(user))
		if err != nil || a.Status != http.StatusForbidden || a.Delivery != state ||
			a.Email != user[:1]+"***@example.test" {
			t.Errorf("%s: %s, delivery %q, to %q, %v", user, a, a.Delivery, a.Email, err)
		}
		if a, err := v.signIn(user, "wrong"); err != nil || a.Status != http.StatusUnauthorized ||
			a.Delivery != "" {
			t.Errorf("%s with a wrong password: %s, delivery %q, %v", user, a, a.Delivery, err)
		}
	}
	a, _, err := v.prove("bad", password("bad"), "POST", "/resend.ashx",
		url.Values{"email": {"good@example.test"}})
	if err != nil || !a.OK {
		t.Fatalf("%s, %v", a, err)
	}
	o.until("the new message is sent", func() bool { return len(s.Messages()) == 2 })
	m := arrived(t, s, "good")
	if status, _, err := v.open(m.link); err != nil || status != http.StatusOK {
		t.Errorf("the link of the new message: %d, %v", status, err)
	}
	if a, err := v.signIn("bad", password("bad")); err != nil || !a.OK {
		t.Errorf("sign-in: %s, %v", a, err)
	}
	p.mustStop(t)
}

func TestVerifyReportsMissingMessage(t *testing.T) {
	t.Parallel()
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, _ string) error {
		if at == smtptest.Rcpt {
			return smtptest.Reply(450, "4.2.1 busy")
		}
		return nil
	}})
	o := newRelayFixture(t, nil, "--mail-relay=smtp://"+s.Address)
	p := o.start()
	o.signup("ann")
	id := o.becomes("ann", "deferred").ID
	p.mustStop(t)
	if out := o.must("verify"); !strings.Contains(out, "no faults found") {
		t.Errorf("verify: %s", out)
	}
	if err := os.Remove(filepath.Join(o.data, "pickup", id+".eml")); err != nil {
		t.Fatal(err)
	}
	if out, err := o.command("verify"); err == nil ||
		!strings.Contains(out, "FAULT  message "+id+" is to be sent: its file is gone") {
		t.Errorf("verify: %v, %s", err, out)
	}
}

// A server without a relay leaves the files alone. It sends them once it has a relay.
func TestRelayTakesOverOldMessages(t *testing.T) {
	t.Parallel()
	s := smtptest.Start(t, smtptest.Options{})
	o := newRelayFixture(t, nil)
	p := o.start()
	o.signup("ann")
	o.until("the outbox is empty",
		func() bool { return strings.Contains(o.must("verify"), " 0 not yet synced") })
	if names, err := filepath.Glob(filepath.Join(o.data, "pickup", "*.eml")); err != nil ||
		len(names) != 1 {
		t.Errorf("the pickup directory has %q, %v", names, err)
	}
	if out := o.must("mail", "list", "--all", "--json"); out != "[]\n" {
		t.Errorf("the queue has %s", out)
	}
	p.mustStop(t)
	o.flags = append(o.flags, "--mail-relay=smtp://"+s.Address)
	o.start()
	o.becomes("ann", "sent")
	if arrived(t, s, "ann").link == "" {
		t.Error("the message has no link")
	}
}

// A server that is killed under load sends a message for every signup that it has answered. A
// message that is sent twice has the same bytes.
func TestKillWithRelayLosesNoMessage(t *testing.T) {
	t.Parallel()
	s := smtptest.Start(t, smtptest.Options{})
	o := newRelayFixture(t, nil, "--mail-relay=smtp://"+s.Address)
	var mu sync.Mutex
	answered := make(map[string]bool)
	for round := range min(rounds(t), 8) {
		p := o.start()
		var clients sync.WaitGroup
		for c := range 4 {
			clients.Go(func() {
				for i := 0; ; i++ {
					user := fmt.Sprintf("user-%d-%d-%d", round, c, i)
					v := newVisitor(p.address, "")
					a, err := v.signup(user)
					v.leave()
					if err != nil {
						return // the server is gone
					}
					if a.OK {
						mu.Lock()
						answered[email(user)] = true
						mu.Unlock()
					}
				}
			})
		}
		before := s.Accepted()
		o.until("20 messages have arrived", func() bool { return s.Accepted() > before+20 })
		p.Kill()
		clients.Wait()
	}
	o.start()
	o.until("everything is sent", func() bool {
		m := o.metrics()
		return m[`dialtone_mail_queue_messages{state="waiting"}`] == "0" &&
			m[`dialtone_mail_queue_messages{state="deferred"}`] == "0" &&
			m["dialtone_mail_pickup_files"] == "0"
	})
	received, twice := make(map[string]string), 0
	for _, m := range s.Messages() {
		if text, ok := received[m.To]; ok {
			if twice++; text != string(m.Data) {
				t.Errorf("two different messages arrived for %s", m.To)
			}
		}
		received[m.To] = string(m.Data)
	}
	for to := range answered {
		if received[to] == "" {
			t.Errorf("the message to %s was lost", to)
		}
	}
	t.Logf("%d signups answered, %d messages arrived, %d of them twice", len(answered), len(received), twice)
}

func TestMailDKIMAndDoctor(t *testing.T) {
	t.Parallel()
	s := smtptest.Start(t, smtptest.Options{Users: map[string]string{"alex": "secret"}})
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newRelayFixture(t, []string{"DIALTONE_MAIL_RELAY=smtp://alex@" + s.Address,
		"DIALTONE_MAIL_RELAY_PASSWORD_FILE=" + file})
	o.start()
	out := o.must("mail", "dkim", "add", "localhost", "--selector=one")
	var line string
	for l := range strings.Lines(out) { // other lines are of the log
		if strings.Contains(l, " IN TXT ") {
			line = strings.TrimSpace(l)
		}
	}
	name, text, ok := strings.Cut(line, ". IN TXT ")
	if !ok || name != "one._domainkey.localhost" || strings.Contains(out, "PRIVATE") {
		t.Fatalf("mail dkim add prints %s", out)
	}
	record := strings.NewReplacer(`" "`, "", `"`, "").Replace(text)
	if again, err := o.command("mail", "dkim", "add", "localhost", "--selector=one",
		"--algorithm=ed25519"); err == nil || !strings.Contains(again, "already") {
		t.Errorf("again: %v, %s", err, again)
	}
	if list := o.must("mail", "dkim", "list", "localhost"); !strings.Contains(list, text) {
		t.Errorf("the list is %s", list)
	}
	records := map[string][]string{
		"localhost":                {"v=spf1 -all"},
		"one._domainkey.localhost": {record},
		"_dmarc.localhost":         {"v=DMARC1; p=none"},
	}
	if out := o.must("mail", "doctor", "--tenant=localhost",
		"--resolver="+smtptest.DNS(t, records)); strings.Count(out, "ok    ") != 4 ||
		!strings.HasSuffix(out, "see docs/mail.md\n") || strings.Count(out, "\nnote  click tracking: ") != 1 {
		t.Errorf("mail doctor prints\n%s", out)
	}
	delete(records, "one._domainkey.localhost")
	delete(records, "_dmarc.localhost")
	if err := os.WriteFile(file, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := o.command("mail", "doctor", "--tenant=localhost",
		"--resolver="+smtptest.DNS(t, records))
	for _, words := range []string{"TO DO relay: logging in: 535", "ok    spf", "TO DO dkim one",
		text, "TO DO dmarc",
		`_dmarc.localhost. IN TXT "v=DMARC1; p=none"`} {
		if err == nil || !strings.Contains(found, words) {
			t.Errorf("mail doctor: %v; its output does not contain %q\n%s", err, words, found)
		}
	}
	if strings.Contains(found, "wrong") {
		t.Error("mail doctor prints the password")
	}
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.until("a signed message arrives", func() bool {
		o.signup(fmt.Sprintf("u%d", time.Now().UnixNano()))
		list := s.Messages()
		return len(list) > 0 && strings.HasPrefix(string(list[len(list)-1].Data), "DKIM-Signature: ")
	})
	o.must("mail", "dkim", "remove", "localhost", "--selector=one")
	if list := o.must("mail", "dkim", "list", "localhost"); list != "" {
		t.Errorf("the list is %s", list)
	}
}
