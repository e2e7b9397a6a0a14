package main

import (
	"fmt"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
)

// detailLines returns the lines that account show prints.
func detailLines(d operator.Detail) (lines [][2]string) {
	add := func(name, format string, args ...any) {
		lines = append(lines, [2]string{name, fmt.Sprintf(format, args...)})
	}
	at := func(t time.Time) string { return t.Format(time.RFC3339) }
	if d.Account == nil {
		add("user", "%s", d.Closed.User)
		add("state", "%s", stateText(opjson.OfDetail(d).Account))
		add("note", "the account was deleted, and its name is reserved; to give it up, run: "+
			"dialtone account free-name %s", d.Closed.User)
	} else {
		v := opjson.OfDetail(d)
		lines = accountLines(v.Account)
		for _, k := range v.Passkeys {
			add("passkey", "%s, added %s, last used %s", k.Name, at(k.Made), formatTime(k.Used))
		}
		if v.App != nil {
			add("app", "since %s, %d recovery codes left", at(*v.App), v.RecoveryCodes)
		}
		for _, s := range v.Sessions {
			add("session", "since %s, last used %s, by %s, from %s, %s",
				at(s.Began), at(s.Seen), s.How, s.Network, s.Browser)
		}
		for _, l := range v.Lookups {
			add("look-up", "%s by %s (%s)", at(l.At), l.Server, l.How)
		}
		if len(v.Lookups) == 0 {
			add("look-up", "none known")
		}
		for _, m := range d.Messages {
			add("message", "%s", messageText(m))
		}
	}
	for _, c := range d.Changes {
		add("change", "%s", changeText(c))
	}
	return lines
}

// messageText describes a message and whether it was sent.
func messageText(m account.DataMessage) string {
	text := strings.TrimSpace(m.Kind+" to "+m.To) + ": "
	if m.State == string(delivery.Written) {
		return text + "written to the pickup directory at " + m.Since.Format(time.RFC3339) +
			"; the mail server collects it there"
	}
	text += m.State + " since " + m.At().Format(time.RFC3339)
	if m.Attempts > 0 {
		text += fmt.Sprintf(", attempts: %d", m.Attempts)
	}
	if m.Answer != "" {
		text += ", answer: " + m.Answer
	}
	return text
}

// changeText returns a change of the trail in words.
func changeText(c audit.Change) string {
	text := c.At.Format(time.RFC3339) + " " + string(c.Action)
	if c.Subject != "" {
		text += " " + c.Subject
	}
	if change := beforeAfter(c); change != "" {
		text += " " + change
	}
	text += " by " + c.Actor.Words()
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}

// beforeAfter describes the values before and after a change of the trail.
func beforeAfter(c audit.Change) string {
	switch {
	case c.Before == "":
		return c.After
	case c.After == "":
		return c.Before + " -> nothing"
	}
	return c.Before + " -> " + c.After
}
