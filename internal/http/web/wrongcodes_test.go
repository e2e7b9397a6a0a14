package web_test

import (
	"strings"
	"testing"
	"time"
)

// TestWrongCodesMessage checks that the owner of an account gets one message a day about wrong codes that follow
// the right password, and that its link works.
func TestWrongCodesMessage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	s.turnOn(t, who)
	v := s.visitor("a.test")
	about := func() (n int) {
		t.Helper()
		s.Must(s.Outbox.Flush(t.Context())) // finds that there is a message
		s.Must(s.Outbox.Flush(t.Context()))
		for _, m := range s.messages(t, who.email) {
			if strings.Contains(m.header.Get("Subject"), "Wrong codes") {
				n++
			}
		}
		return n
	}
	wrong := who
	wrong.password = "wrong"
	for i, want := range []int{0, 0, 1, 1} {
		if i == 1 {
			v.signIn(t, who.user, wrong.password, "Dialtone-Code", "000000").wantStatus(t, 401)
		}
		v.signIn(t, who.user, who.password, "Dialtone-Code", "000000").wantRule(t, "code.wrong")
		if n := about(); n != want {
			t.Errorf("%d messages after %d wrong codes, want %d", n, i+1, want)
		}
	}
	_, token := s.linkToPage(t, who.email, "not-me")
	s.visitor("a.test").postForm(t, "/not-me.ashx", "token="+token).wantStatus(t, 200)
	s.Advance(25 * time.Hour)
	for range 2 {
		v.signIn(t, who.user, who.password, "Dialtone-Code", "000000")
	}
	if n := about(); n != 1 {
		t.Errorf("%d messages after two wrong codes of the next day, want no other", n)
	}
}
