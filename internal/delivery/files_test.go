package delivery

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
)

var errBroken = errors.New("broken by the test")

// callLog is a Files that records its calls, and fails with err.
type callLog struct {
	Files
	calls []string
	err   error
}

func (f *callLog) Remove(mailmsg.ID) error {
	f.calls = append(f.calls, "remove")
	return f.err
}

func (f *callLog) MoveToBadmail(mailmsg.ID, string) error {
	f.calls = append(f.calls, "move")
	return f.err
}

func (f *callLog) EachPickup(func([]mailmsg.ID) error) error {
	f.calls = append(f.calls, "pickup")
	return f.err
}

func (f *callLog) EachBadmail(func([]mailmsg.ID) error) error { return nil }

func newFileQueue() (*Queue, *callLog, *bytes.Buffer) {
	files, log := &callLog{}, &bytes.Buffer{}
	return NewQueue(Deps{
		Files: files, Connections: 1, Now: time.Now, Log: slog.New(slog.NewTextHandler(log, nil)),
	}), files, log
}

func TestFinishFile(t *testing.T) {
	for state, want := range map[State]struct {
		call, log string
		counts    Counts
	}{
		Sent:      {"remove", "message.sent", Counts{Sent: 1}},
		Discarded: {"remove", "message.discarded", Counts{}},
		Failed:    {"move", "message.failed", Counts{Failed: 1}},
		Deferred:  {"", "message.deferred", Counts{Deferred: 1}},
	} {
		q, files, log := newFileQueue()
		a := attempt{Delivery: Delivery{State: state, Email: "ann@mail.test", Answer: "no ann@mail.test"}}
		q.finishFile(t.Context(), a)
		if got := strings.Join(files.calls, " "); got != want.call || q.Counts() != want.counts {
			t.Errorf("%s: calls %q, counts %+v", state, got, q.Counts())
		}
		if text := log.String(); !strings.Contains(text, "msg="+want.log) ||
			strings.Contains(text, "ann@mail.test") || strings.Contains(text, "level=ERROR") {
			t.Errorf("%s: the log has %s", state, text)
		}
		log.Reset()
		files.err = errBroken
		q.finishFile(t.Context(), a)
		if got := strings.Contains(log.String(), `msg="message file not moved"`); got != (want.call != "") {
			t.Errorf("%s, with a fault: the log has %s", state, log)
		}
	}
}

func TestFinishFilesSkipsUnattempted(t *testing.T) {
	q, files, _ := newFileQueue()
	q.window.add([]Delivery{{Message: mailmsg.ID{1}}, {Message: mailmsg.ID{2}}})
	recorded := make(chan []attempt, 1)
	recorded <- []attempt{
		{Delivery: Delivery{Message: mailmsg.ID{1}, State: Sent}},
		{Delivery: Delivery{Message: mailmsg.ID{2}, State: Sent}, notAttempted: true},
	}
	close(recorded)
	q.finishFiles(t.Context(), recorded)
	if !slices.Equal(files.calls, []string{"remove"}) || len(q.window.held) != 0 {
		t.Errorf("calls %q, %d are held", files.calls, len(q.window.held))
	}
}

// checkedFiles is a Files whose checks end with the errors that a test sends.
type checkedFiles struct {
	callLog
	errs chan error
}

func (f *checkedFiles) EachPickup(func([]mailmsg.ID) error) error { return <-f.errs }

// TestTidyIsRepeated checks that files are compared with the store every hour, and that faults are logged.
func TestTidyIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _, log := newFileQueue()
		files := &checkedFiles{errs: make(chan error)}
		q.deps.Files = files
		ctx, cancel := context.WithCancel(t.Context())
		go q.runTidy(ctx)
		start := time.Now()
		files.errs <- nil
		synctest.Wait()
		if time.Since(start) != 0 || log.Len() > 0 {
			t.Errorf("the first check ended after %v, and the log has %s", time.Since(start), log)
		}
		files.errs <- errBroken
		synctest.Wait()
		if time.Since(start) != tidyInterval ||
			strings.Count(log.String(), `msg="pickup directory check failed"`) != 1 {
			t.Errorf("the second check ended after %v, and the log has %s", time.Since(start), log)
		}
		cancel()
	})
}

// tidyStore is a Store that knows some messages, and records which files were claimed.
type tidyStore struct {
	Store
	known     []Delivery
	claimed   []FoundFile
	unclaimed []mailmsg.ID
	err       error // of ClaimFiles
}

func (s *tidyStore) LinkHash(t secret.Token) [32]byte { return t }

func (s *tidyStore) Classify(context.Context, []mailmsg.ID) ([]Delivery, []mailmsg.ID, error) {
	return s.known, nil, nil
}

func (s *tidyStore) ClaimFiles(
	_ context.Context, found []FoundFile, _ time.Time,
) ([]mailmsg.ID, error) {
	s.claimed = append(s.claimed, found...)
	return s.unclaimed, s.err
}

// Token implements Files. Message 9 has no file, and message 10 no token.
func (f *callLog) Token(id mailmsg.ID) (secret.Token, error) {
	switch id[0] {
	case 9:
		return secret.Token{}, ErrNoFile
	case 10:
		return secret.Token{}, errBroken
	}
	return secret.Token{id[0]}, nil
}

func TestTidyPickup(t *testing.T) {
	q, files, log := newFileQueue()
	q.deps.Node = "here"
	store := &tidyStore{known: []Delivery{
		{Message: mailmsg.ID{1}, State: Waiting, Node: "here"},
		{Message: mailmsg.ID{2}, State: Deferred, Node: "there"},
		{Message: mailmsg.ID{3}, State: Sent, Node: "there"},
		{Message: mailmsg.ID{4}, State: Failed, Node: "here"},
	}}
	q.deps.Store = store
	list := []mailmsg.ID{{1}, {2}, {3}, {4}, {9}, {10}}
	if err := q.tidyPickup(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if want := []FoundFile{{mailmsg.ID{2}, [32]byte{2}}}; !slices.Equal(store.claimed, want) {
		t.Errorf("claimed %v, want %v", store.claimed, want)
	}
	if want := []string{"remove", "move"}; !slices.Equal(files.calls, want) {
		t.Errorf("calls %q, want %q", files.calls, want)
	}
	if n := strings.Count(log.String(), "foreign file"); n != 1 {
		t.Errorf("a foreign file was logged %d times:\n%s", n, log)
	}
	store.err = errBroken
	if err := q.tidyPickup(t.Context(), list); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	store.known, store.claimed = store.known[:1], nil
	if err := q.tidyPickup(t.Context(), list[:1]); err != nil || len(store.claimed) > 0 {
		t.Errorf("without a file to claim: got %v, claimed %v", err, store.claimed)
	}
}
