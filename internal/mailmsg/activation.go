package mailmsg

import (
	_ "embed"
	"html"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"dialtone/internal/i18n"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// linkPath is the part of a link between the tenant's public URL and the token (wire contract).
const linkPath = "/activate.ashx?token="

// Link is an account's one-time link, and the message that carries it.
type Link struct {
	Token secret.Token
	// Made is when the message was made, and Expires when the link expires.
	Made, Expires time.Time
	// Resent means that the person has asked for another message.
	Resent bool
}

// Activation returns the message with a link, in a language. It fails only if an operator's
// template fails, which Load has checked.
func (ts Templates) Activation(t *tenant.Tenant, tag i18n.Tag, id ID, to string, link Link) (Message, error) {
	words := i18n.In(tag)
	m := Message{
		ID:       id,
		Domain:   t.Host,
		FromName: t.Product,
		From:     t.Sender(),
		ReplyTo:  t.ReplyTo,
		To:       to,
		Date:     link.Made,
		Lang:     words.Tag,
	}
	colours := t.Palette()
	c := Content{
		Link:         t.PublicURL + linkPath + link.Token.Text(),
		Platform:     t.Name(),
		Host:         t.Host,
		Until:        words.Moment(link.Expires),
		Footer:       t.MailFooter,
		Accent:       colours.Light.Accent,
		OnAccent:     colours.Light.OnAccent,
		DarkAccent:   colours.Dark.Accent,
		OnDarkAccent: colours.Dark.OnAccent,
		Lang:         words.Tag,
		Dir:          words.Dir,
	}
	for _, l := range t.Links() {
		c.Links = append(c.Links, FooterLink{words.Text("layout." + l.Name), l.URL})
	}
	c.Subject = words.Text("message.subject", "platform", c.Platform)
	if link.Resent {
		// Mail programs put messages with one subject into one thread and fold the older part away,
		// or the newer one that repeats it. So the time makes each of these subjects another one.
		c.Resent = link.Made.UTC().Format("15:04") + " UTC"
		c.Subject = words.Text("message.subject_again", "platform", c.Platform, "time", c.Resent)
	}
	if own, ok := ts.replaced[words.Tag]; ok {
		return m, own.fill(&m, c)
	}
	m.Subject = c.Subject
	m.Text, m.HTML = c.write(words)
	return m, nil
}

//go:embed activation.html
var activationHTML string

// font is the style of all text in the HTML. Outlook does not let cells of a table inherit it.
const font = "font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif; " +
	"line-height: 1.5"

// darkStyle is for mail programs that know whether the screen is dark. Others show the light
// colours of the elements, or invert them.
const darkStyle = `@media (prefers-color-scheme: dark) {
.page { background: #0d1211 !important }
.card { background: #171e1c !important; border-color: #2b3532 !important; color: #e9efec !important }
.soft { color: #aab7b1 !important }
.line { border-color: #2b3532 !important }
`

// write returns both parts of the built-in message.
func (c Content) write(words *i18n.Words) (text, page string) {
	say := func(key string) string {
		return words.Text("message."+key, "platform", c.Platform, "until", c.Until)
	}
	asked := say("asked")
	if c.Resent != "" {
		asked = say("asked_again")
	}
	until, then, notYou := say("until"), say("then"), say("not_you")
	text = c.Wrap(asked) + "\n\n" + c.Wrap(say("open")) + "\n\n" + c.Link + "\n\n" +
		c.Wrap(until+" "+then) + "\n\n" + c.Wrap(notYou) + "\n" + c.textFooter(words)
	page = i18n.Fill(activationHTML,
		"lang", string(c.Lang),
		"dir", c.Dir,
		"start", c.start(),
		"font", font,
		"dark", darkStyle+
			".accent { background: "+c.DarkAccent+" !important; color: "+c.OnDarkAccent+" !important }\n"+
			".on-accent { color: "+c.OnDarkAccent+" !important }\n}\n",
		"subject", html.EscapeString(c.Subject),
		"accent", c.Accent,
		"on_accent", c.OnAccent,
		"platform", html.EscapeString(c.Platform),
		"title", html.EscapeString(say("title")),
		"link", html.EscapeString(c.Link),
		"asked", html.EscapeString(asked),
		"press", html.EscapeString(say("press")),
		"button", html.EscapeString(say("button")),
		"address", html.EscapeString(say("address")),
		"until", html.EscapeString(until),
		"then", html.EscapeString(then),
		"not_you", html.EscapeString(notYou),
		"footer", c.htmlFooter())
	return text, page
}

// start returns the side of the page on which lines begin.
func (c Content) start() string {
	if c.Dir == "rtl" {
		return "right"
	}
	return "left"
}

// textFooter returns the operator's links and footer after an empty line each, or nothing.
func (c Content) textFooter(words *i18n.Words) (text string) {
	if len(c.Links) > 0 {
		text = "\n"
	}
	for _, link := range c.Links {
		text += words.Text("message.link", "label", link.Label, "address", link.Text()) + "\n"
	}
	if c.Footer != "" {
		text += "\n" + c.Wrap(c.Footer) + "\n"
	}
	return text
}

// htmlFooter returns a row of the table with the operator's links and footer, or nothing.
func (c Content) htmlFooter() string {
	const paragraph = `<p style="margin: 0 0 8px">`
	var links []string
	for _, link := range c.Links {
		links = append(links, `<a href="`+html.EscapeString(link.URL)+
			`" target="_blank" class="soft" style="color: #4b5a53">`+html.EscapeString(link.Label)+"</a>")
	}
	page := ""
	if len(links) > 0 {
		page = paragraph + strings.Join(links, " &middot; ") + "</p>\n"
	}
	if c.Footer != "" {
		page += paragraph + `<span dir="auto">` + html.EscapeString(c.Footer) + "</span></p>\n"
	}
	if page == "" {
		return ""
	}
	return `<tr><td class="soft" align="` + c.start() + `" style="padding: 20px 24px 0; color: #4b5a53; ` + font +
		`; font-size: 13px; overflow-wrap: anywhere">` + "\n" + page + "</td></tr>\n"
}

// FooterLink is the address of one of the operator's pages, or of the support as a mailto URL.
// Label says in words what it is.
type FooterLink struct{ Label, URL string }

// Text returns the address as people read it.
func (l FooterLink) Text() string {
	address, isMail := strings.CutPrefix(l.URL, "mailto:")
	if !isMail {
		return l.URL
	}
	if plain, err := url.PathUnescape(address); err == nil {
		return plain
	}
	return address
}

// Content is what a template can use. Nothing in it was chosen by the sender of the form.
type Content struct {
	Link string
	// Platform is the tenant's product name, or its host; Host is its host name.
	Platform, Host string
	// Until is when the link expires, in words.
	Until string
	// Resent is the time of day of a message that the person has asked for again, such as 14:05
	// UTC. It is empty for the message of a signup.
	Resent string
	// Links are the tenant's links. Footer is its footer, or empty.
	Links  []FooterLink
	Footer string
	// Accent and OnAccent are the tenant's colour and that of text on it, as #rrggbb. DarkAccent
	// and OnDarkAccent are those for dark screens.
	Accent, OnAccent         string
	DarkAccent, OnDarkAccent string
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
