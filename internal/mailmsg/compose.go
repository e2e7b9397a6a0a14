package mailmsg

import (
	_ "embed"
	"errors"
	"html"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"dialtone/internal/i18n"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// Kind is what a message is about. Kinds are stored, so they never change.
type Kind string

const (
	// Activation has the link that activates an account.
	Activation Kind = ""
	// Reset has a link to choose a new password.
	Reset Kind = "reset"
	// PasswordChanged says that the password was changed. Its link is for somebody who did not
	// change it.
	PasswordChanged Kind = "password_changed"
	// ConfirmEmail goes to a new address, and has a link that makes it the account's address.
	ConfirmEmail Kind = "confirm_email"
	// EmailChanged tells the previous address that the address was changed. Its link also sets
	// the account's address back.
	EmailChanged Kind = "email_changed"
	// FactorChanged says that an authenticator app or a passkey was added or removed, or that the recovery codes were
	// replaced. Its link also removes factors that were added since, and with the detail CodesReplaced all recovery
	// codes.
	FactorChanged Kind = "factor_changed"
	// NewBrowser says that somebody signed in with a browser that the account was not used with before.
	NewBrowser Kind = "new_browser"
	// WrongCodes says that somebody who knows the password has entered wrong codes.
	WrongCodes Kind = "wrong_codes"
	// RecoveryUsed says that a recovery code was used instead of a code of the authenticator
	// app. Its link also removes all recovery codes.
	RecoveryUsed Kind = "recovery_used"
	// DataTaken says that somebody downloaded the stored data about the person.
	DataTaken Kind = "data_taken"
	// Leaving says that the account will be erased. Its link is for a person who stays.
	Leaving Kind = "leaving"
	// SetPassword says that an operator has added an account. Its link is for choosing the password, which activates
	// the account.
	SetPassword Kind = "set_password"
)

// NotMe lists the kinds of messages whose link is for somebody who did not make the change. It ends all
// sessions and leads to another password.
var NotMe = []Kind{PasswordChanged, EmailChanged, FactorChanged, NewBrowser, WrongCodes, RecoveryUsed, DataTaken}

// The details of FactorChanged. They are stored, so they never change. If the account did not
// have both kinds of factors, FactorsRemoved, by an operator, has a suffix that tells which
// kind was removed.
const (
	AppOn          = "app_on"
	AppOff         = "app_off"
	PasskeyAdded   = "passkey_added"
	PasskeyRemoved = "passkey_removed"
	CodesReplaced  = "codes"
	FactorsRemoved = "removed_by_operator"
	AppAlone       = FactorsRemoved + ".app"
	PasskeysAlone  = FactorsRemoved + ".passkey"
)

// Stays is the detail of PasswordChanged for an account whose owner had left and stays by this
// change. It is stored too.
const Stays = "stays"

// FactorDetails lists the details of FactorChanged.
var FactorDetails = []string{
	AppOn, AppOff, PasskeyAdded, PasskeyRemoved, CodesReplaced, FactorsRemoved, AppAlone, PasskeysAlone,
}

// linkPaths are the parts of links between the tenant's public URL and the token. The path of
// an activation link is part of the wire contract.
var linkPaths = map[Kind]string{
	Activation:      "/activate.ashx?token=",
	Reset:           "/reset.html?token=",
	SetPassword:     "/reset.html?token=",
	ConfirmEmail:    "/confirm-email.html?token=",
	PasswordChanged: notMePath,
	EmailChanged:    notMePath,
	FactorChanged:   notMePath,
	NewBrowser:      notMePath,
	WrongCodes:      notMePath,
	RecoveryUsed:    notMePath,
	DataTaken:       notMePath,
	Leaving:         "/stay.html?token=",
}

// Kinds returns all kinds.
func Kinds() []Kind { return slices.Sorted(maps.Keys(linkPaths)) }

const notMePath = "/not-me.html?token="

// declinePath is the path of the link for somebody who did not sign up. It has the token of the
// activation link, but a different parameter: scripts search messages for token=, and must find
// only the activation link.
const declinePath = "/decline.html?link="

// Link is a one-time link, and the message that carries it.
type Link struct {
	Kind  Kind
	Token secret.Token
	// Made is when the message was made, and Expires when the link expires.
	Made, Expires time.Time
	// Resent means that the person has asked for another activation message.
	Resent bool
	// Net is the network that a change came from, such as 192.0.2.0/24. It is empty for some kinds.
	Net string
	// Detail depends on Kind. For FactorChanged it is the change, for PasswordChanged Stays or
	// empty, for NewBrowser the browser as returned by session.BrowserOf, and for RecoveryUsed
	// the number of remaining codes. For other kinds it is empty.
	Detail string
	// User is the user name of the account. Messages about a change contain it, since they go
	// to the account's owner, who may have several accounts. Messages that a stranger can
	// cause, about an activation or a reset, do not, since a stranger may have chosen the name.
	// They mention that the page behind the link shows it.
	User string
}

// url returns the URL of the link at a tenant.
func (l Link) url(t *tenant.Tenant) string { return t.PublicURL + Path(l.Kind, l.Token) }

// Path returns the path of a link, relative to the tenant's public URL.
func Path(k Kind, token secret.Token) string { return linkPaths[k] + token.Text() }

// key returns the key of the text for a part of the message: the first that exists of those for
// its detail, the detail up to a dot, its kind, and all kinds in NotMe.
func (l Link) key(words *i18n.Words, part string) string {
	kind := "message." + string(l.Kind) + "."
	detail, _, _ := strings.Cut(l.Detail, ".")
	for _, key := range []string{kind + l.Detail + "." + part, kind + detail + "." + part, kind + part} {
		if _, ok := words.Find(key); ok {
			return key
		}
	}
	return "message.not_me." + part
}

// removed returns the words for what an operator removed.
func (l Link) removed(words *i18n.Words) string {
	switch l.Detail {
	case AppAlone:
		return words.Text("message.removed.app")
	case PasskeysAlone:
		return words.Text("message.removed.passkey")
	}
	return words.Text("message.removed.all")
}

// browser returns a label of session.BrowserOf in a language.
func browser(words *i18n.Words, label string) string {
	if label == "" {
		return words.Text("sessions.unknown")
	}
	if name, system, ok := strings.Cut(label, " on "); ok {
		return words.Text("sessions.on", "browser", name, "system", system)
	}
	return label
}

// ErrKind means that a message is of a kind that only a later version of the program knows.
var ErrKind = errors.New("this version of the program does not know the kind of the message")

// Compose returns the message with a link, in a language. It fails with ErrKind, or if an
// operator's template fails, which Load rules out.
func (ts Templates) Compose(t *tenant.Tenant, tag i18n.Tag, id ID, to string, link Link) (Message, error) {
	if _, known := linkPaths[link.Kind]; !known {
		return Message{}, ErrKind
	}
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
		Link:         link.url(t),
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
	if link.Kind != Activation {
		say := func(part string) string {
			return words.Text(link.key(words, part), "platform", c.Platform, "when", words.Moment(link.Made),
				"net", link.Net, "user", link.User, "browser", browser(words, link.Detail),
				"what", link.removed(words), "left", link.Detail)
		}
		c.Subject = say("subject")
		m.Subject = c.Subject
		m.Text, m.HTML = c.write(words, texts{
			say("title"), say("asked"), say("open"), say("press"), say("button"),
			words.Text("message.until", "until", c.Until), say("then"), say("not_you"), "",
		})
		return m, nil
	}
	c.Decline = t.PublicURL + declinePath + link.Token.Text()
	c.Subject = words.Text("message.subject", "platform", c.Platform)
	if link.Resent {
		// Mail programs put messages with the same subject into one thread, and hide the older
		// messages or repeated content. So the time makes each subject different.
		c.Resent = link.Made.UTC().Format("15:04") + " UTC"
		c.Subject = words.Text("message.subject_again", "platform", c.Platform, "time", c.Resent)
	}
	if own, ok := ts.replaced[words.Tag]; ok {
		return m, own.fill(&m, c)
	}
	m.Subject = c.Subject
	say := func(part string) string {
		return words.Text("message."+part, "platform", c.Platform, "until", c.Until)
	}
	asked := say("asked")
	if c.Resent != "" {
		asked = say("asked_again")
	}
	m.Text, m.HTML = c.write(words, texts{
		say("title"), asked, say("open"), say("press"), say("button"), say("until"), say("then"), say("not_you"),
		say("decline"),
	})
	return m, nil
}

// texts are the texts of a message in the order in which they appear. open is for the text part and
// press for the HTML part, above the link. decline is the text of a second link, or empty.
type texts struct{ title, asked, open, press, button, until, then, notYou, decline string }

//go:embed message.html
var messageHTML string

// font is the style of all text in the HTML. It is repeated, since table cells do not inherit it in Outlook.
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

// write returns both parts of a built-in message.
func (c Content) write(words *i18n.Words, say texts) (text, page string) {
	text = c.Wrap(say.asked) + "\n\n" + c.Wrap(say.open) + "\n\n" + c.Link + "\n\n" +
		c.Wrap(say.until+" "+say.then) + "\n\n" + c.Wrap(say.notYou) + "\n"
	notYou := html.EscapeString(say.notYou)
	if say.decline != "" {
		text += "\n" + c.Decline + "\n"
		notYou += ` <a href="` + html.EscapeString(c.Decline) +
			`" target="_blank" class="soft" style="color: #4b5a53">` + html.EscapeString(say.decline) + "</a>"
	}
	text += c.textFooter(words)
	page = i18n.Fill(messageHTML,
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
		"title", html.EscapeString(say.title),
		"link", html.EscapeString(c.Link),
		"asked", html.EscapeString(say.asked),
		"press", html.EscapeString(say.press),
		"button", html.EscapeString(say.button),
		"address", html.EscapeString(words.Text("message.address")),
		"until", html.EscapeString(say.until),
		"then", html.EscapeString(say.then),
		"not_you", notYou,
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

// textFooter returns the operator's links and footer, each after an empty line, or "".
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

// htmlFooter returns a table row with the operator's links and footer, or "".
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

// FooterLink is the URL of one of the operator's pages, or a mailto URL of the support. Label is its text.
type FooterLink struct{ Label, URL string }

// Text returns the URL, or the e-mail address, in readable form.
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
	// Decline is the link for somebody who did not sign up. It is empty in messages without one.
	Decline string
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
	// Accent and OnAccent are the tenant's colour and the colour of text on it, as #rrggbb.
	// DarkAccent and OnDarkAccent are the colours for dark screens.
	Accent, OnAccent         string
	DarkAccent, OnDarkAccent string
	// Lang and Dir are the values of HTML's lang and dir attributes.
	Lang i18n.Tag
	Dir  string
	// Subject is the message's subject.
	Subject string
}

// maxLine is the maximum length of lines in characters (RFC 5322 section 2.1.1 recommends at most 78).
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
