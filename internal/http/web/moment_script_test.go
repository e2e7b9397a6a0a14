package web

import (
	"testing"
	"time"

	"dialtone/internal/i18n"
)

// TestExpiryOnPage checks that the page after a signup says when the link expires as the message
// does, whatever the clock and the time zone of the visitor's device.
func TestExpiryOnPage(t *testing.T) {
	moments := []time.Time{
		// It expires on the first of a month, which is 1er in French.
		time.Date(2031, time.December, 25, 9, 5, 0, 0, time.UTC),
		time.Date(2031, time.March, 1, 23, 59, 30, 0, time.UTC),
	}
	for i, tag := range i18n.Tags {
		made := moments[i%2]
		s := newPageServer(t)
		s.onSignup(withHeader("Date", made.Format("Mon, 02 Jan 2006 15:04:05 GMT"),
			reply(200, `{"ok":true,"user":"alex"}`)))
		p := openTab(t, s, "/signup.html?lang="+string(tag))
		p.fillAll()
		p.submit()
		p.wait(`!document.getElementById("sent").hidden`)
		want := i18n.In(tag).Moment(made.AddDate(0, 0, 7))
		if got := p.text("sent-until"); got != want {
			t.Errorf("%s: the page says %q, and the message %q", tag, got, want)
		}
	}
}
