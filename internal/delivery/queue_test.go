package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/i18n"
	"dialtone/internal/mail/relay"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/test/smtptest"
	"dialtone/internal/test/world"
	"dialtone/internal/trace"
)

// fixture is a store, a pickup directory and a queue, connected as in the server.
type fixture struct {
	*world.World
	queue  *delivery.Queue
	signer delivery.Signer
	tracer *trace.Tracer
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return &fixture{World: world.New(t, world.Options{RealTime: true})}
}

// posted is a message and the account that it is for.
type posted struct {
	world.Person
	text []byte
}

// ref identifies the message for the outbox.
func (p posted) ref() outbox.Ref {
	return outbox.Ref{Tenant: p.Account.Tenant, Account: p.Account.UID, Message: p.Message}
}

// write creates an account, and the message to it with an outbox row.
func (o *fixture) write(to string) posted {
	o.Helper()
	p, err := o.written(to)
	if err != nil {
		o.Fatal(err)
	}
	return p
}

// writeMany is write for n accounts. It writes concurrently, so that transactions share commits.
func (o *fixture) writeMany(n int, to func(i int) string) []posted {
	o.Helper()
	list, errs := make([]posted, n), make([]error, n)
	var all sync.WaitGroup
	for first := range 64 {
		all.Go(func() {
			for i := first; i < n; i += 64 {
				list[i], errs[i] = o.written(to(i))
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		o.Fatal(err)
	}
	return list
}

func (o *fixture) written(to string) (p posted, err error) {
	now := o.Now().UTC().Truncate(time.Microsecond)
	p.Person = o.Signup("")
	p.Account.User, p.Account.Email = p.Message.String(), to
	if err := o.Store.Create(context.Background(), p.Signup, now); err != nil {
		return p, err
	}
	l, err := mailmsg.Templates{}.Compose(o.Tenant, i18n.English, p.Message, to,
		mailmsg.Link{Token: p.Token, Made: now, Expires: p.Account.Expires})
	if err != nil {
		return p, err
	}
	if p.text, err = l.Bytes(); err != nil {
		return p, err
	}
	staged, err := o.Pickup.Stage(p.Message, p.text)
	if err != nil {
		return p, err
	}
	return p, staged.Publish()
}

// post writes a message and enqueues it.
func (o *fixture) post(to string) posted {
	o.Helper()
	p := o.write(to)
	o.enqueue(p)
	return p
}

// enqueue replaces the outbox rows of messages with delivery rows.
func (o *fixture) enqueue(list ...posted) {
	o.Helper()
	var refs []outbox.Ref
	for _, p := range list {
		refs = append(refs, p.ref())
	}
	if _, err := o.Store.Enqueue(o.Context(), refs, o.Now()); err != nil {
		o.Fatal(err)
	}
}

// start starts a queue that sends to a relay at an address, until stop is called or the test ends.
func (o *fixture) start(address string, connections int) (stop func()) {
	o.Helper()
	r, err := relay.New(relay.Config{
		Address: address, Security: relay.None, Connections: connections,
		Times: relay.Times{
			Connect: 2 * time.Second,
			Command: 30 * time.Second,
			Content: 30 * time.Second,
			Idle:    time.Minute,
		},
	})
	if err != nil {
		o.Fatal(err)
	}
	o.queue = delivery.NewQueue(delivery.Deps{
		Store:       o.Store,
		Files:       o.Pickup,
		Relay:       r,
		Signer:      o.signer,
		Tracer:      o.tracer,
		Connections: connections,
		Log:         slog.New(slog.DiscardHandler),
		Now:         o.Now,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { o.queue.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		r.Close()
	})
	o.Cleanup(stop)
	return stop
}

func (o *fixture) delivery(p posted) delivery.Delivery {
	o.Helper()
	d, err := o.Store.Delivery(o.Context(), p.Message)
	if err != nil {
		o.Fatal(err)
	}
	return d
}

// becomes waits until a message has a state.
func (o *fixture) becomes(p posted, s delivery.State) {
	o.Helper()
	o.Eventually(fmt.Sprintf("the message to %s is %s", p.Account.Email, s),
		func() bool { return o.delivery(p).State == s })
}

// empty waits until a directory is empty.
func (o *fixture) empty(dir string) {
	o.Helper()
	o.Eventually(dir+" is empty", func() bool { return len(o.Files(dir)) == 0 })
}

// refuseBad makes a server answer with reply at a step, for recipients whose addresses begin with bad.
func refuseBad(at smtptest.Step, reply error) func(smtptest.Step, string, string) error {
	return func(now smtptest.Step, _, to string) error {
		if now == at && strings.HasPrefix(to, "bad") {
			return reply
		}
		return nil
	}
}

func TestSend(t *testing.T) {
	o, s := newFixture(t), smtptest.Start(t, smtptest.Options{})
	early := o.post("ann@mail.test")
	o.start(s.Address, 4)
	late := o.post("bob@mail.test")
	for _, p := range []posted{early, late} {
		o.becomes(p, delivery.Sent)
		d := o.delivery(p)
		if !strings.HasPrefix(d.Answer, "2.0.0 OK") || d.Attempts != 1 || !d.Due.IsZero() {
			t.Errorf("got %+v", d)
		}
	}
	o.empty("pickup")
	want := map[string][]byte{early.Account.Email: early.text, late.Account.Email: late.text}
	for _, m := range s.Messages() {
		if m.From != "no-reply@phone.test" || !bytes.Equal(m.Data, want[m.To]) {
			t.Errorf("to %s came from %s\n%s", m.To, m.From, m.Data)
		}
		delete(want, m.To)
	}
	if len(want) > 0 {
		t.Errorf("%d messages did not arrive", len(want))
	}
}

// TestSendTrace checks that the trace says which attempts failed.
func TestSendTrace(t *testing.T) {
	o := newFixture(t)
	s := smtptest.Start(t, smtptest.Options{Answer: refuseBad(smtptest.Rcpt, smtptest.Reply(550, "5.1.1 nobody"))})
	var sent, failed atomic.Int64
	o.tracer = trace.New(1, func(s *trace.Span) {
		if s.Failed {
			failed.Add(1)
		} else {
			sent.Add(1)
		}
	})
	stop := o.start(s.Address, 2)
	for _, to := range []string{"ann", "ben", "carl"} {
		o.becomes(o.post(to+"@mail.test"), delivery.Sent)
	}
	o.becomes(o.post("bad@mail.test"), delivery.Failed)
	stop()
	if sent.Load() != 3 || failed.Load() != 1 {
		t.Errorf("the trace has %d attempts, and %d that failed, want 3 and 1", sent.Load(), failed.Load())
	}
}

// A message with an outbox row may be written again, so it is not sent yet.
func TestSendWaitsForOutbox(t *testing.T) {
	o, s := newFixture(t), smtptest.Start(t, smtptest.Options{})
	unsettled := o.write("ann@mail.test")
	o.start(s.Address, 4)
	o.becomes(o.post("bob@mail.test"), delivery.Sent)
	// The file is removed after the delivery was recorded.
	o.Eventually("bob's file is gone", func() bool { return len(o.Files("pickup")) == 1 })
	if s.Accepted() != 1 {
		t.Fatalf("%d messages were sent, %q are left", s.Accepted(), o.Files("pickup"))
	}
	o.enqueue(unsettled)
	o.becomes(unsettled, delivery.Sent)
}

func TestRefusal(t *testing.T) {
	for name, c := range map[string]struct {
		at    smtptest.Step
		reply error
		want  delivery.State
		tries int
		words string
	}{
		"RCPT 5xx": {
			smtptest.Rcpt, smtptest.Reply(550, "5.1.1 no such user"),
			delivery.Failed, 1, "RCPT: 550 5.1.1 no such user"},
		"RCPT 5xx without enhanced code": {
			smtptest.Rcpt, smtptest.Reply(550, "no"),
			delivery.Failed, 1, "RCPT: 550 no"},
		"DATA 5xx": {
			smtptest.Content, smtptest.Reply(554, "5.6.0 spam"),
			delivery.Failed, 1, "DATA: 554 5.6.0 spam"},
		"RCPT 4xx": {
			smtptest.Rcpt, smtptest.Reply(450, "4.2.1 mailbox busy"),
			delivery.Deferred, 1, "RCPT: 450"},
		"DATA 4xx": {
			smtptest.Content, smtptest.Reply(451, "4.3.0 try later"),
			delivery.Deferred, 1, "DATA: 451"},
		"DATA dropped": {
			smtptest.Content, smtptest.ErrDrop,
			delivery.Deferred, 1, "DATA: "},
		"relaying denied": {
			smtptest.Rcpt, smtptest.Reply(554, "5.7.1 Relay access denied"),
			delivery.Deferred, 1, "RCPT: 554 5.7.1"},
		"authentication required": {
			smtptest.Rcpt, smtptest.Reply(530, "log in first"),
			delivery.Deferred, 1, "RCPT: 530"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, s := newFixture(t), smtptest.Start(t, smtptest.Options{Answer: refuseBad(c.at, c.reply)})
			p := o.post("bad@mail.test")
			before := o.Now()
			o.start(s.Address, 2)
			o.becomes(p, c.want)
			d := o.delivery(p)
			if d.Attempts != c.tries || !strings.HasPrefix(d.Answer, c.words) {
				t.Errorf("got %+v", d)
			}
			switch c.want {
			case delivery.Failed:
				o.isBadmail(p, c.words)
			case delivery.Deferred:
				if pause := d.Due.Sub(before); pause < time.Minute ||
					pause > 72*time.Second+time.Since(before) {
					t.Errorf("the next attempt is in %v", pause)
				}
				if len(o.Files("pickup")) != 1 || len(o.Files("badmail")) != 0 {
					t.Errorf("files: %q, %q", o.Files("pickup"), o.Files("badmail"))
				}
			}
			o.becomes(o.post("good@mail.test"), delivery.Sent)
		})
	}
}

// isBadmail checks that a message is in badmail, next to a text that begins with words.
func (o *fixture) isBadmail(p posted, words string) {
	o.Helper()
	o.empty("pickup")
	id := p.Message.String()
	if got := o.Files("badmail"); len(got) != 2 || got[0] != id+".eml" || got[1] != id+".txt" {
		o.Fatalf("badmail has %q", got)
	}
	why, err := os.ReadFile(filepath.Join(o.Dir, "badmail", id+".txt"))
	if err != nil || !strings.HasPrefix(string(why), words) ||
		!strings.Contains(string(why), "dialtone mail retry "+id) {
		o.Errorf("the text says %q, %v", why, err)
	}
	text, err := os.ReadFile(filepath.Join(o.Dir, "badmail", id+".eml"))
	if err != nil || !bytes.Equal(text, p.text) {
		o.Errorf("the message has %d bytes of %d, %v", len(text), len(p.text), err)
	}
}

// A refusal of the sender is a configuration error: the message waits until it is fixed.
func TestRefusalOfSender(t *testing.T) {
	for name, reply := range map[string]error{
		"5xx": smtptest.Reply(553, "5.7.1 not your address"),
		"4xx": smtptest.Reply(451, "4.3.0 full"),
	} {
		t.Run(name, func(t *testing.T) {
			var fixed atomic.Bool
			o := newFixture(t)
			s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, _ string) error {
				if at == smtptest.Mail && !fixed.Load() {
					return reply
				}
				return nil
			}})
			p := o.post("ann@mail.test")
			o.start(s.Address, 2)
			o.becomes(p, delivery.Deferred)
			fixed.Store(true)
			o.Advance(2 * time.Minute)
			o.becomes(p, delivery.Sent)
		})
	}
}

func TestBadMessageDelaysNoOther(t *testing.T) {
	for name, reply := range map[string]error{
		"4xx":                smtptest.Reply(451, "4.3.0 again"),
		"connection dropped": smtptest.ErrDrop,
	} {
		t.Run(name, func(t *testing.T) {
			o, s := newFixture(t), smtptest.Start(t,
				smtptest.Options{Answer: refuseBad(smtptest.Content, reply)})
			refused := o.write("bad@mail.test")
			garbled := o.write("ann@mail.test")
			if err := os.WriteFile(filepath.Join(o.Pickup.Path(), garbled.Message.String()+".eml"),
				[]byte("not a message"), 0o640); err != nil {
				t.Fatal(err)
			}
			o.enqueue(refused, garbled)
			list := o.writeMany(1000,
				func(i int) string { return fmt.Sprintf("user%d@mail%d.test", i, i%7) })
			o.enqueue(list...)
			o.start(s.Address, 4)
			o.Eventually("all others are sent", func() bool { return s.Accepted() == len(list) })
			o.becomes(refused, delivery.Deferred)
			o.becomes(garbled, delivery.Failed)
			o.Eventually("only the refused message is left", func() bool { return len(o.Files("pickup")) == 1 })
			seen := make(map[string]int)
			for _, m := range s.Messages() {
				parsed, err := mail.ReadMessage(bytes.NewReader(m.Data))
				if err != nil {
					t.Fatal(err)
				}
				seen[parsed.Header.Get("Message-ID")]++
			}
			for _, p := range list {
				if n := seen["<"+p.Message.String()+"@phone.test>"]; n != 1 {
					t.Errorf("the message to %s arrived %d times", p.Account.Email, n)
				}
			}
		})
	}
}

func TestRelayDown(t *testing.T) {
	o := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // nothing listens there for now
	var list []posted
	for i := range 30 {
		list = append(list, o.post(fmt.Sprintf("user%d@mail%d.test", i, i%3)))
	}
	o.start(address, 4)
	o.Eventually("the relay is paused", func() bool { return o.queue.Counts().Pause > 0 })
	o.Eventually("the backlog counts deferred messages", func() bool {
		b, err := o.Store.Backlog(t.Context())
		return err == nil && b.Deferred > 0 && b.Waiting+b.Deferred == int64(len(list))
	})
	for _, p := range list {
		if d := o.delivery(p); !d.State.Open() || d.Attempts != 0 || d.State == delivery.Deferred &&
			!strings.HasPrefix(d.Answer, "connecting: ") {
			t.Errorf("got %+v", d)
		}
	}
	s := smtptest.Start(t, smtptest.Options{Listen: address})
	o.Advance(10 * time.Minute) // longer than the longest pause
	for _, p := range list {
		o.becomes(p, delivery.Sent)
	}
	if s.Accepted() != len(list) {
		t.Errorf("%d messages of %d", s.Accepted(), len(list))
	}
}

func TestSlowDomain(t *testing.T) {
	o := newFixture(t)
	release := make(chan struct{})
	var slow, maxSlow atomic.Int64
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, to string) error {
		if at == smtptest.Rcpt && strings.HasSuffix(to, "@slow.test") {
			n := slow.Add(1)
			for m := maxSlow.Load(); n > m && !maxSlow.CompareAndSwap(m, n); m = maxSlow.Load() {
			}
			<-release
			slow.Add(-1)
		}
		return nil
	}})
	// This is more messages than are read at a time.
	list := o.writeMany(600, func(i int) string { return fmt.Sprintf("user%d@slow.test", i) })
	o.enqueue(list...)
	others := o.writeMany(20, func(i int) string { return fmt.Sprintf("user%d@quick.test", i) })
	o.enqueue(others...)
	o.start(s.Address, 4)
	o.Eventually("the slow domain uses all its connections", func() bool { return slow.Load() == 3 })
	for _, p := range others {
		o.becomes(p, delivery.Sent)
	}
	close(release)
	for _, p := range list {
		o.becomes(p, delivery.Sent)
	}
	if maxSlow.Load() != 3 {
		t.Errorf("%d connections for one domain", maxSlow.Load())
	}
}

func TestMessageExpires(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration
		words string
	}{
		"after three days": {
			3*24*time.Hour + time.Minute,
			"the relay did not accept the message for 3 days; last answer: RCPT: 450 4.2.1 busy"},
		"after the link expired": {
			account.PendingLife,
			"the link expired before the relay accepted the message; " +
				"last answer: RCPT: 450 4.2.1 busy"},
	} {
		t.Run(name, func(t *testing.T) {
			o, s := newFixture(t), smtptest.Start(t,
				smtptest.Options{Answer: refuseBad(smtptest.Rcpt,
					smtptest.Reply(450, "4.2.1 busy"))})
			p := o.post("bad@mail.test")
			o.start(s.Address, 2)
			o.becomes(p, delivery.Deferred)
			o.Advance(c.after)
			o.becomes(p, delivery.Failed)
			o.isBadmail(p, c.words)
		})
	}
}

func TestRetryAndDiscard(t *testing.T) {
	var fixed atomic.Bool
	o := newFixture(t)
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, from, to string) error {
		if fixed.Load() {
			return nil
		}
		return refuseBad(smtptest.Rcpt, smtptest.Reply(550, "5.1.1 nobody"))(at, from, to)
	}})
	retried, discarded := o.post("bad1@mail.test"), o.post("bad2@mail.test")
	o.start(s.Address, 2)
	for _, p := range []posted{retried, discarded} {
		o.becomes(p, delivery.Failed)
	}
	o.Eventually("both are in badmail", func() bool { return len(o.Files("badmail")) == 4 })
	fixed.Store(true)
	if _, err := o.Store.Retry(t.Context(), retried.Message, o.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Store.Discard(t.Context(), discarded.Message, "enough of it", o.Now()); err != nil {
		t.Fatal(err)
	}
	o.becomes(retried, delivery.Sent)
	o.empty("badmail")
	o.empty("pickup")
	if got := s.Messages(); len(got) != 1 || !bytes.Equal(got[0].Data, retried.text) {
		t.Errorf("%d messages arrived", len(got))
	}
	if d := o.delivery(discarded); d.State != delivery.Discarded ||
		d.Answer != "enough of it; last answer: RCPT: 550 5.1.1 nobody" || d.Ended.IsZero() {
		t.Errorf("got %+v", d)
	}
}

func TestFileGone(t *testing.T) {
	o := newFixture(t)
	s := smtptest.Start(t, smtptest.Options{Answer: refuseBad(smtptest.Rcpt, smtptest.Reply(450, "4.2.0 later"))})
	deferred, p := o.post("bad@mail.test"), o.post("ann@mail.test")
	remove := func(p posted) {
		t.Helper()
		if err := os.Remove(filepath.Join(o.Pickup.Path(), p.Message.String()+".eml")); err != nil {
			t.Fatal(err)
		}
	}
	remove(p)
	stop := o.start(s.Address, 2)
	o.becomes(deferred, delivery.Deferred)
	stop()
	remove(deferred)
	o.Advance(time.Hour)
	o.start(s.Address, 2)
	const why = "its file is gone from the pickup directory; another program or a person removed it"
	for p, want := range map[*posted]string{&p: why, &deferred: why + "; last answer: RCPT: 450 4.2.0 later"} {
		o.becomes(*p, delivery.Discarded)
		if d := o.delivery(*p); d.Answer != want || s.Accepted() != 0 {
			t.Errorf("got %+v", d)
		}
	}
}

// A stopping server finishes the messages that are being sent. None is sent twice.
func TestShutdownFinishesMessages(t *testing.T) {
	o := newFixture(t)
	entered, release := make(chan struct{}, 100), make(chan struct{})
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, _ string) error {
		if at == smtptest.Content {
			entered <- struct{}{}
			<-release
		}
		return nil
	}})
	var list []posted
	for i := range 20 {
		list = append(list, o.post(fmt.Sprintf("user%d@mail%d.test", i, i)))
	}
	stop := o.start(s.Address, 4)
	for range 4 {
		<-entered
	}
	closed := make(chan struct{})
	go func() {
		stop()
		close(closed)
	}()
	select {
	case <-closed:
		t.Fatal("the queue did not wait for messages being sent")
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	<-closed
	if s.Accepted() != 4 || len(o.Files("pickup")) != 16 {
		t.Errorf("%d messages, %d files", s.Accepted(), len(o.Files("pickup")))
	}
	o.start(s.Address, 4)
	for _, p := range list {
		o.becomes(p, delivery.Sent)
	}
	if s.Accepted() != len(list) {
		t.Errorf("%d messages of %d", s.Accepted(), len(list))
	}
}

// The server can stop although the relay hangs.
func TestShutdownWithSilentRelay(t *testing.T) {
	o := newFixture(t)
	entered, release := make(chan struct{}, 1), make(chan struct{})
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, _ string) error {
		if at == smtptest.Content {
			entered <- struct{}{}
			<-release
		}
		return nil
	}})
	defer close(release)
	p := o.post("ann@mail.test")
	stop := o.start(s.Address, 2)
	<-entered
	began := time.Now()
	stop()
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("the queue ended after %v", took)
	}
	if d := o.delivery(p); d.State != delivery.Waiting || d.Attempts != 0 {
		t.Errorf("got %+v", d)
	}
}

func TestTidy(t *testing.T) {
	o := newFixture(t)
	// As after a crash, these messages have a final state and still have a file.
	sent, failed, discarded := o.post("sent@mail.test"), o.post("failed@mail.test"), o.post("discarded@mail.test")
	for p, s := range map[*posted]delivery.State{
		&sent: delivery.Sent, &failed: delivery.Failed, &discarded: delivery.Discarded,
	} {
		d := o.delivery(*p)
		d.State, d.Due, d.Answer = s, time.Time{}, "the answer"
		if err := o.Store.Record(t.Context(), []delivery.Delivery{d}); err != nil {
			t.Fatal(err)
		}
	}
	// This message is from before a relay was configured. It has neither an outbox row nor a delivery row.
	old := o.write("old@mail.test")
	if _, err := o.Store.Ack(t.Context(), []outbox.Ref{old.ref()}, o.Now()); err != nil {
		t.Fatal(err)
	}
	// The account of the first is deleted, the second has an outbox row, and the third is in the queue.
	gone, unsettled, waiting := o.post("gone@mail.test"), o.write("unsettled@mail.test"), o.post("waiting@mail.test")
	if err := o.Store.Delete(t.Context(), o.Tenant.ID, gone.Account.User, o.Now()); err != nil {
		t.Fatal(err)
	}
	foreign := strings.Repeat("ab", 16) + ".eml"
	for _, name := range []string{foreign, "notes.eml", "x.txt"} {
		if err := os.WriteFile(filepath.Join(o.Pickup.Path(), name),
			[]byte("Subject: no link\r\n\r\nof ours\r\n"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	q := delivery.NewQueue(delivery.Deps{Store: o.Store, Files: o.Pickup, Connections: 1,
		Log: slog.New(slog.DiscardHandler), Now: o.Now})
	for range 2 {
		if err := q.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := make(map[string]bool)
		for _, p := range []posted{old, unsettled, waiting} {
			want[p.Message.String()+".eml"] = true
		}
		for _, name := range []string{foreign, "notes.eml", "x.txt"} {
			want[name] = true
		}
		got := o.Files("pickup")
		for _, name := range got {
			if !want[name] {
				t.Errorf("%s was not removed", name)
			}
		}
		if len(got) != len(want) {
			t.Errorf("there are %d files, want %d", len(got), len(want))
		}
		if got := o.Files("badmail"); len(got) != 2 || got[0] != failed.Message.String()+".eml" {
			t.Errorf("badmail has %q", got)
		}
		if d := o.delivery(old); d.State != delivery.Waiting {
			t.Errorf("got %+v", d)
		}
	}
	if err := o.Store.Delete(t.Context(), o.Tenant.ID, failed.Account.User, o.Now()); err != nil {
		t.Fatal(err)
	}
	if err := q.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.empty("badmail")
}

// Orphans are removed with and without a relay. Nothing else is removed.
func TestRemoveOrphans(t *testing.T) {
	o := newFixture(t)
	// Without a relay, an acknowledged message has no row.
	kept, gone := o.write("kept@mail.test"), o.write("gone@mail.test")
	if _, err := o.Store.Ack(t.Context(), []outbox.Ref{kept.ref(), gone.ref()}, o.Now()); err != nil {
		t.Fatal(err)
	}
	inOutbox, waiting, discarded := o.write("outbox@mail.test"), o.post("waiting@mail.test"), o.post("off@mail.test")
	failed, failedGone := o.post("failed@mail.test"), o.post("failed-gone@mail.test")
	for _, p := range []posted{failed, failedGone} {
		d := o.delivery(p)
		d.State, d.Due, d.Answer = delivery.Failed, time.Time{}, "550 no"
		if err := o.Store.Record(t.Context(), []delivery.Delivery{d}); err != nil {
			t.Fatal(err)
		}
		if err := o.Pickup.MoveToBadmail(p.Message, "550 no"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(o.Pickup.Path(), strings.Repeat("ab", 16)+".eml"),
		[]byte("Subject: no link\r\n\r\nof ours\r\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, p := range []posted{gone, failedGone, discarded} {
		if err := o.Store.Delete(t.Context(), o.Tenant.ID, p.Account.User, o.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{3, 0} {
		if n, err := delivery.RemoveOrphans(t.Context(), o.Store, o.Pickup); n != want || err != nil {
			t.Errorf("removed %d, %v, want %d", n, err, want)
		}
		want := []string{strings.Repeat("ab", 16) + ".eml"}
		for _, p := range []posted{kept, inOutbox, waiting} {
			want = append(want, p.Message.String()+".eml")
		}
		slices.Sort(want)
		got := o.Files("pickup")
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("pickup has %q, want %q", got, want)
		}
		if got := o.Files("badmail"); len(got) != 2 || got[0] != failed.Message.String()+".eml" {
			t.Errorf("badmail has %q", got)
		}
	}
}

// noKey is a Signer that fails.
type noKey struct{}

func (noKey) Sign(context.Context, int64, []byte) ([]byte, error) { return nil, secret.ErrSeal }

func TestSignFails(t *testing.T) {
	o, s := newFixture(t), smtptest.Start(t, smtptest.Options{})
	o.signer = noKey{}
	p := o.post("ann@mail.test")
	o.start(s.Address, 2)
	o.becomes(p, delivery.Deferred)
	if d := o.delivery(p); !strings.HasPrefix(d.Answer, "sign: ") || s.Accepted() != 0 {
		t.Errorf("got %+v", d)
	}
}
