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

// linkPath is the part of a link between the tenant's public URL and the token (wire contract).
const linkPath = "/activate.ashx?token="

// Activation returns the message with an account's one-time link, in a language. The link is valid
// until expires. It fails only if an operator's template fails, which Load has checked.
func (ts Templates) Activation(t *tenant.Tenant, tag i18n.Tag, id ID, to string,
	token secret.Token, date, expires time.Time) (Message, error) {
	words := i18n.In(tag)
	m := Message{
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
	c.Subject = words.Text("message.subject", "platform", c.Platform)
	if own, ok := ts.replaced[words.Tag]; ok {
		return m, own.fill(&m, c)
	}
	m.Subject = c.Subject
	m.Text, m.HTML = c.write(words)
	return m, nil
}

//go:embed activation.html
var activationHTML string

// write returns both parts of the built-in message.
func (c Content) write(words *i18n.Words) (text, page string) {
	say := func(key string) string {
		return words.Text("message."+key, "platform", c.Platform, "until", c.Until)
	}
	asked, until, then, notYou := say("asked"), say("until"), say("then"), say("not_you")
	text = c.Wrap(asked) + "\n\n" + c.Wrap(say("open")) + "\n\n" + c.Link + "\n\n" +
		c.Wrap(until) + "\n" + c.Wrap(then) + "\n\n" + c.Wrap(notYou) + "\n"
	footer := ""
	if c.Footer != "" {
		text += "\n" + c.Wrap(c.Footer) + "\n"
		footer = `<p style="font-size: 13px">` + html.EscapeString(c.Footer) + "</p>\n"
	}
	page = i18n.Fill(activationHTML,
		"lang", string(c.Lang),
		"dir", c.Dir,
		"subject", html.EscapeString(c.Subject),
		"link", html.EscapeString(c.Link),
		"asked", html.EscapeString(asked),
		"press", html.EscapeString(say("press")),
		"button", html.EscapeString(say("button")),
		"until", html.EscapeString(until),
		"then", html.EscapeString(then),
		"not_you", html.EscapeString(notYou),
		"footer", footer)
	return text, page
}

// Content is what a template can use. Nothing in it was chosen by the sender of the form.
type Content struct {
	Link string
	// Platform is the tenant's product name, or its host; Host is its host name.
	Platform, Host string
	// Until is when the link expires, in words.
	Until string
	// Footer is the tenant's footer, or empty.
	Footer string
	// Lang and Dir are the values of HTML's lang and dir attributes.
	Lang i18n.Tag
	Dir  string
	// Subject is the message's subject.
	Subject string
}

// maxLine is the length of lines in characters (RFC 5322 section 2.1.1 recommends at most 78).
const maxLine = 72

// Wrap breaks a text into lines at its spaces, but not at no-break spaces.
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
