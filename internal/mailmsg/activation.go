package mailmsg

import (
	_ "embed"
	"html"
	"strings"
	"time"
	"unicode/utf8"

	"dialtone/internal/i18n"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// linkPath is what a link has between the tenant's public URL and the token (the published contract).
const linkPath = "/activate.ashx?token="

// Activation is the message with an account's one-time link, which is good until expires, in a language. It fails where an
// operator's template does, which Load had tried.
func (ts Templates) Activation(t *tenant.Tenant, tag i18n.Tag, id ID, to string, token secret.Token, date, expires time.Time) (Message, error) {
	words := i18n.In(tag)
	l := Message{
		ID:       id,
		Domain:   t.Host,
		FromName: t.Product,
		From:     t.Sender(),
		ReplyTo:  t.ReplyTo,
		To:       to,
		Date:     date,
		Lang:     words.Tag,
	}
	c := Content{
		Link:     t.PublicURL + linkPath + token.Text(),
		Platform: t.Name(),
		Host:     t.Host,
		Until:    words.Moment(expires),
		Footer:   t.MailFooter,
		Lang:     words.Tag,
		Dir:      words.Dir,
	}
	c.Subject = words.Text("letter.subject", "platform", c.Platform)
	if own, ok := ts.replaced[words.Tag]; ok {
		return l, own.fill(&l, c)
	}
	l.Subject = c.Subject
	l.Text, l.HTML = c.write(words)
	return l, nil
}

//go:embed activation.html
var activationHTML string

// write makes both parts in the program's own words.
func (c Content) write(words *i18n.Words) (text, page string) {
	say := func(key string) string { return words.Text("letter."+key, "platform", c.Platform, "until", c.Until) }
	asked, until, then, notYou := say("asked"), say("until"), say("then"), say("not_you")
	text = c.Wrap(asked) + "\n\n" + c.Wrap(say("open")) + "\n\n" + c.Link + "\n\n" +
		c.Wrap(until) + "\n" + c.Wrap(then) + "\n\n" + c.Wrap(notYou) + "\n"
	footer := ""
	if c.Footer != "" {
		text += "\n" + c.Wrap(c.Footer) + "\n"
		footer = `<p style="font-size: 13px">` + html.EscapeString(c.Footer) + "</p>\n"
	}
	page = i18n.Fill(activationHTML, "lang", string(c.Lang), "dir", c.Dir, "subject", html.EscapeString(c.Subject), "link", html.EscapeString(c.Link),
		"asked", html.EscapeString(asked), "press", html.EscapeString(say("press")), "button", html.EscapeString(say("button")),
		"until", html.EscapeString(until), "then", html.EscapeString(then), "not_you", html.EscapeString(notYou),
		"footer", footer)
	return text, page
}

// Content is what a template can fill in. There is nothing in it that the sender of the form chose.
type Content struct {
	Link string
	// Platform is what people call the tenant, Host its host name.
	Platform, Host string
	// Until is when the link expires, in words.
	Until string
	// Footer is the tenant's, or empty.
	Footer string
	// Lang and Dir are the language and its direction, as HTML writes them.
	Lang i18n.Tag
	Dir  string
	// Subject is that of the message.
	Subject string
}

// maxLine is where the lines of a text end (RFC 5322 §2.1.1 has 78 for the longest).
const maxLine = 72

// Wrap breaks a text into lines, at its spaces alone: a no-break space is none.
func (c Content) Wrap(text string) string {
	var b strings.Builder
	column := 0
	for word := range strings.SplitSeq(text, " ") {
		width := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+width > maxLine:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += width
	}
	return b.String()
}
