package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/mailmsg"
)

func TestClassifyPolicy(t *testing.T) {
	for _, r := range []Refusal{
		{At: Rcpt, Code: 530, Text: "5.7.0 authentication required"},
		{At: Rcpt, Code: 530, Text: "log in"},
		{At: Rcpt, Code: 535, Text: "log in"},
		{At: Data, Code: 503, Text: "RCPT first"},
		{At: Rcpt, Code: 599, Text: "5.7.9 no"},
	} {
		if got := classify(&r); got != temporary {
			t.Errorf("%v: %d, want %d", &r, got, temporary)
		}
	}
	for _, r := range []Refusal{
		{At: Rcpt, Code: 500, Text: "5.1.1"}, {At: Rcpt, Code: 599, Text: "5.1.1"},
		{At: Rcpt, Code: 531, Text: "no"}, {At: Data, Code: 550, Text: "5.7.1 spam"},
	} {
		if got := classify(&r); got != permanent {
			t.Errorf("%v: %d, want %d", &r, got, permanent)
		}
	}
}

func TestAnswerLength(t *testing.T) {
	longest := strings.Repeat("a", maxAnswer)
	if got := oneLine(longest); got != longest {
		t.Errorf("%d bytes become %d", maxAnswer, len(got))
	}
	if got := oneLine(longest + "b"); got != longest+"…" {
		t.Errorf("%d bytes become %q", maxAnswer+1, got)
	}
	if got := oneLine("a\x7fb\u009f\u0085c~\u2029d\u00a0e\x1ff"); got != "a b c~ d e f" {
		t.Errorf("got %q", got)
	}
	for code, want := range map[int]string{0: "a timeout", 450: "450 a timeout"} {
		if got := (&Refusal{At: Rcpt, Code: code, Text: "a timeout"}).answer(); got != want {
			t.Errorf("code %d: got %q, want %q", code, got, want)
		}
	}
}

func TestDoubled(t *testing.T) {
	for times, want := range map[int]time.Duration{
		0: 1, 1: 1, 2: 2, 3: 4, 5: 16, 6: 20, 1000: 20,
	} {
		if got := doubled(time.Second, 20*time.Second, times); got != want*time.Second {
			t.Errorf("%d times: got %v, want %v", times, got, want*time.Second)
		}
	}
}

func TestCheckSelector(t *testing.T) {
	for _, s := range []string{"a", "a-1.b", "0", strings.Repeat("a", 63)} {
		if err := CheckSelector(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", ".", "a.", "-a", "a-", "a.-b", "A", "a_b", strings.Repeat("a", 64)} {
		if err := CheckSelector(s); err == nil {
			t.Errorf("%q is a selector", s)
		}
	}
}

func TestWindowPerDomain(t *testing.T) {
	for connections, want := range map[int]int{1: 1, 2: 1, 4: 3} {
		w, _ := newWindow(connections)
		for i := range 10 {
			w.add([]Delivery{{Message: mailmsg.ID{byte(i)}, Email: "a@slow.test"}})
		}
		n := 0
		for w.first() >= 0 && n < 10 {
			begin(t, w)
			n++
		}
		if n != want {
			t.Errorf("with %d connections, %d messages of one domain are sent at a time", connections, n)
		}
	}
}

// TestWindowOrder checks that deliveries start in the order in which they were added, each once.
func TestWindowOrder(t *testing.T) {
	w, _ := newWindow(4)
	put(w, 0, 5)
	for i := range 5 {
		a, g := begin(t, w)
		if a.Message[1] != byte(i) {
			t.Errorf("delivery %d is number %d", i, a.Message[1])
		}
		w.done(&a, g)
	}
	if len(w.queue) != 0 || len(w.inFlight) != 0 || w.running != 0 {
		t.Errorf("%d are next, %v and %d are being sent", len(w.queue), w.inFlight, w.running)
	}
}

// TestWindowRoom checks when more deliveries are read.
func TestWindowRoom(t *testing.T) {
	roomFor := func(queued, recording int) bool {
		w, _ := newWindow(4)
		put(w, 0, queued)
		for i := range recording {
			w.held[mailmsg.ID{byte(i >> 8), byte(i), 1}] = true
		}
		_, held, ok := w.room()
		if held != queued+recording {
			t.Errorf("%d are held, want %d", held, queued+recording)
		}
		return ok
	}
	for _, c := range []struct {
		queued, recording int
		want              bool
	}{
		{0, 0, true},
		{batchSize - 1, 0, true},
		{batchSize, 0, false},
		{0, maxHeld - batchSize, true},
		{0, maxHeld - batchSize + 1, false},
	} {
		if got := roomFor(c.queued, c.recording); got != c.want {
			t.Errorf("%d next and %d to be recorded: %v, want %v", c.queued, c.recording, got, c.want)
		}
	}
}

// TestWindowRoomDespiteSlowDomain checks when messages to other domains are read although the window is full.
func TestWindowRoomDespiteSlowDomain(t *testing.T) {
	full := func(connections, running, held int) *window {
		w, _ := newWindow(connections)
		for i := range batchSize + running {
			w.add([]Delivery{{Message: mailmsg.ID{byte(i >> 8), byte(i)}, Email: "a@slow.test"}})
		}
		for range running {
			begin(t, w)
		}
		for i := len(w.held); i < held; i++ {
			w.held[mailmsg.ID{byte(i >> 8), byte(i), 1}] = true
		}
		return w
	}
	for name, c := range map[string]struct {
		w    *window
		want bool
	}{
		"one domain uses all that it may":      {full(4, 3, 0), true},
		"it uses fewer":                        {full(4, 2, 0), false},
		"there is no other connection":         {full(1, 1, 0), false},
		"the window holds all that is allowed": {full(4, 3, maxHeld-batchSize), true},
		"the window holds more":                {full(4, 3, maxHeld-batchSize+1), false},
	} {
		without, _, ok := c.w.room()
		if ok != c.want || ok != slices.Equal(without, []string{"slow.test"}) {
			t.Errorf("%s: got %v without %q, want %v", name, ok, without, c.want)
		}
	}
	paused := full(4, 3, 0)
	paused.relayFailures = 1
	if _, _, ok := paused.room(); ok {
		t.Error("more is read while the relay is paused")
	}
	two := full(4, 3, 0)
	two.inFlight["other.test"] = 2 // fewer than it may have
	two.running = 3
	if without, _, ok := two.room(); !ok || len(without) != 1 {
		t.Errorf("got %v without %q", ok, without)
	}
}

// TestWindowSignal checks that the window signals when it has room.
func TestWindowSignal(t *testing.T) {
	w, _ := newWindow(4)
	signalled := func() bool {
		select {
		case <-w.roomFree:
			return true
		default:
			return false
		}
	}
	put(w, 0, batchSize+1)
	begin(t, w) // leaves batchSize
	if signalled() {
		t.Error("room is signalled while the window is full")
	}
	a, _ := begin(t, w)
	if !signalled() {
		t.Error("room is not signalled")
	}
	w.release([]attempt{a})
	if !signalled() || w.held[a.Message] {
		t.Error("a delivery that was released is held, or room is not signalled")
	}
}

// dueStore is a Store whose DueMessages returns the values in its fields, and keeps its arguments.
type dueStore struct {
	Store
	after   Position
	without []string
	limit   int
	list    []Delivery
	next    Position
	err     error
}

func (s *dueStore) DueMessages(
	_ context.Context, _ time.Time, after Position, without []string, limit int,
) ([]Delivery, Position, error) {
	s.after, s.without, s.limit = after, without, limit
	return s.list, s.next, s.err
}

func TestFetch(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	here, there := Position{start, mailmsg.ID{1}}, Position{start, mailmsg.ID{2}}
	newQueue := func() (*Queue, *dueStore, *bytes.Buffer) {
		s, log := &dueStore{next: there}, &bytes.Buffer{}
		return NewQueue(Deps{
			Store: s, Connections: 4, Now: func() time.Time { return start },
			Log: slog.New(slog.NewTextHandler(log, nil)),
		}), s, log
	}
	t.Run("continues from the position", func(t *testing.T) {
		q, s, log := newQueue()
		s.list = []Delivery{{Message: mailmsg.ID{1}}}
		put(&q.window, 0, 10)
		asked, next := q.fetch(t.Context(), here)
		if !asked || next != there || s.after != here || s.limit != batchSize || len(q.window.held) != 11 {
			t.Errorf("asked %v, next %v, after %v, limit %d, %d are held",
				asked, next, s.after, s.limit, len(q.window.held))
		}
		if log.Len() > 0 {
			t.Errorf("the log has %s", log)
		}
	})
	t.Run("asks for more at the start, since the held messages are also due", func(t *testing.T) {
		q, s, _ := newQueue()
		put(&q.window, 0, 10)
		if asked, next := q.fetch(t.Context(), Position{}); !asked || next != there || s.limit != batchSize+10 {
			t.Errorf("asked %v, next %v, limit %d", asked, next, s.limit)
		}
	})
	t.Run("asks for nothing without room", func(t *testing.T) {
		q, s, _ := newQueue()
		put(&q.window, 0, batchSize)
		if asked, next := q.fetch(t.Context(), here); asked || next != here || s.limit != 0 {
			t.Errorf("asked %v, next %v, limit %d", asked, next, s.limit)
		}
	})
	t.Run("starts over without slow domains", func(t *testing.T) {
		q, s, _ := newQueue()
		for i := range batchSize + 3 {
			q.window.add([]Delivery{{Message: mailmsg.ID{byte(i >> 8), byte(i)}, Email: "a@slow.test"}})
		}
		for range 3 {
			begin(t, &q.window)
		}
		asked, next := q.fetch(t.Context(), here)
		if !asked || next != (Position{}) || s.after != (Position{}) || len(s.without) != 1 ||
			s.limit != batchSize+batchSize+3 {
			t.Errorf("asked %v, next %v, after %v, without %q, limit %d",
				asked, next, s.after, s.without, s.limit)
		}
	})
	t.Run("starts over after a fault", func(t *testing.T) {
		q, s, log := newQueue()
		s.err = errors.New("broken by the test")
		if asked, next := q.fetch(t.Context(), here); !asked || next != (Position{}) {
			t.Errorf("asked %v, next %v", asked, next)
		}
		if !strings.Contains(log.String(), `level=ERROR msg="due messages not read"`) {
			t.Errorf("the log has %s", log)
		}
		log.Reset()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		q.fetch(ctx, here)
		if log.Len() > 0 {
			t.Errorf("a fault after the end of the server is in the log: %s", log)
		}
	})
}

// recordStore is a Store whose Record fails with err and keeps its arguments.
type recordStore struct {
	Store
	got [][]Delivery
	err error
}

func (s *recordStore) Record(_ context.Context, list []Delivery) error {
	s.got = append(s.got, list)
	return s.err
}

func TestRecord(t *testing.T) {
	var log bytes.Buffer
	newQueue := func(s *recordStore) *Queue {
		return NewQueue(Deps{
			Store: s, Connections: 1, Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
	}
	run := func(q *Queue, list ...attempt) (recorded int) {
		attempts, out := make(chan attempt, len(list)), make(chan []attempt, 10)
		for _, a := range list {
			attempts <- a
		}
		close(attempts)
		q.record(context.Background(), attempts, out)
		for list := range out {
			recorded += len(list)
		}
		return recorded
	}
	sent := attempt{Delivery: Delivery{State: Sent}}
	t.Run("records attempts together", func(t *testing.T) {
		s := &recordStore{}
		if n := run(newQueue(s), sent, sent, sent); n != 3 || len(s.got) != 1 || len(s.got[0]) != 3 {
			t.Errorf("%d attempts, and in the store %v", n, s.got)
		}
	})
	t.Run("does not record what was not attempted", func(t *testing.T) {
		s := &recordStore{}
		n := run(newQueue(s), sent, attempt{notAttempted: true})
		if n != 2 || len(s.got) != 1 || len(s.got[0]) != 1 {
			t.Errorf("%d attempts, and in the store %v", n, s.got)
		}
	})
	if log.Len() > 0 {
		t.Errorf("without a fault, the log has %s", &log)
	}
	t.Run("tries again at the end after a fault", func(t *testing.T) {
		s := &recordStore{err: errors.New("broken by the test")}
		if n := run(newQueue(s), sent); n != 0 || len(s.got) != 2 || fmt.Sprint(s.got[0]) != fmt.Sprint(s.got[1]) {
			t.Errorf("%d attempts, and in the store %v", n, s.got)
		}
		if n := strings.Count(log.String(), `msg="message states not recorded"`); n != 1 {
			t.Errorf("two faults within a minute were logged %d times, want once", n)
		}
	})
	t.Run("records nothing without attempts", func(t *testing.T) {
		s := &recordStore{}
		if n := run(newQueue(s)); n != 0 || len(s.got) != 0 {
			t.Errorf("%d attempts, and in the store %v", n, s.got)
		}
	})
}

// pageStore is a Store whose due messages fill three pages.
type pageStore struct {
	Store
	after []byte // the pages that were asked for
}

func (s *pageStore) DueMessages(
	_ context.Context, now time.Time, after Position, _ []string, _ int,
) ([]Delivery, Position, error) {
	page := after.Message[0]
	s.after = append(s.after, page)
	if page == 2 {
		return nil, Position{}, nil
	}
	return nil, Position{now, mailmsg.ID{page + 1}}, nil
}

// TestRead checks that due messages are read to the last page, and again after pollInterval.
func TestRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &pageStore{}
		q := NewQueue(Deps{
			Store: s, Connections: 1, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		go q.read(ctx)
		synctest.Wait()
		if want := []byte{0, 1, 2}; !slices.Equal(s.after, want) {
			t.Errorf("pages %v were read, want %v", s.after, want)
		}
		time.Sleep(pollInterval)
		synctest.Wait()
		if want := []byte{0, 1, 2, 0, 1, 2}; !slices.Equal(s.after, want) {
			t.Errorf("pages %v were read after pollInterval, want %v", s.after, want)
		}
		cancel()
	})
}

// TestWindowCountsPauses checks that the generation increases with every pause.
func TestWindowCountsPauses(t *testing.T) {
	w, now := newWindow(1)
	put(w, 0, 3)
	for want := range 3 {
		a, generation := begin(t, w)
		if generation != want {
			t.Errorf("generation %d, want %d", generation, want)
		}
		w.done(a.with(relayFailure), generation)
		*now = w.pausedUntil
	}
}
