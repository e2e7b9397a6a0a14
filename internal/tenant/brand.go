package tenant

import (
	"net/mail"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"dialtone/internal/fault"
	"dialtone/internal/i18n"
)

// maxProse is the maximum length of a text of several sentences, in characters.
const maxProse = 600

// checkBrand returns the settings with the texts, links and colours that people see in canonical form.
func (s Settings) checkBrand() (_ Settings, err error) {
	for _, text := range []struct {
		field string
		value *string
	}{{"about", &s.About}, {"welcome", &s.Welcome}} {
		if *text.value, err = checkProse(text.field, *text.value); err != nil {
			return s, err
		}
	}
	for _, link := range []struct {
		field string
		value *string
	}{{"terms-url", &s.TermsURL}, {"privacy-url", &s.PrivacyURL}, {"imprint-url", &s.ImprintURL}} {
		if *link.value, err = checkWebURL(link.field, *link.value); err != nil {
			return s, err
		}
	}
	if s.Support, err = checkSupport(s.Support); err != nil {
		return s, err
	}
	if s.Accent, err = checkAccent(s.Accent); err != nil {
		return s, err
	}
	if len(s.Logo.Data) > 0 {
		s.Logo, err = NewLogo(s.Logo.Data)
	}
	return s, err
}

// checkProse returns a text without surrounding white space, and with \n between its lines.
func checkProse(field, text string) (string, error) { return checkText(field, text, maxProse) }

// checkText is checkProse with a different maximum length.
func checkText(field, text string, limit int) (string, error) {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	if n := utf8.RuneCountInString(text); n > limit {
		return "", fault.Field(field, "%s has %d characters, and at most %d are allowed", field, n, limit)
	}
	if i18n.Hidden(text, true) {
		return "", fault.Field(field, "%s contains a character that is not shown, such as a control character other "+
			"than a line break", field)
	}
	return text, nil
}

// checkWebURL returns the URL of a page on any host, with the host in ASCII.
func checkWebURL(field, raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	unsafe := func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune("\"'\\<>`", r)
	}
	wrong := fault.Field(field, "%q is not the address of a page, such as https://www.example.org/page", raw)
	u, err := url.Parse(raw)
	if err != nil || !utf8.ValidString(raw) || strings.ContainsFunc(raw, unsafe) ||
		u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Opaque != "" {
		return "", wrong
	}
	if !strings.HasPrefix(u.Host, "[") {
		host, err := idna.Lookup.ToASCII(u.Hostname())
		if err != nil {
			return "", wrong
		}
		u.Host = host + strings.TrimPrefix(u.Host, u.Hostname())
	}
	if !validHostPort(u.Host) || len(u.String()) > maxText {
		return "", wrong
	}
	return u.String(), nil
}

// checkSupport returns the URL of a page or an e-mail address.
func checkSupport(raw string) (string, error) {
	raw = strings.TrimPrefix(raw, "mailto:")
	if raw == "" || strings.Contains(raw, "://") {
		return checkWebURL("support", raw)
	}
	if a, err := mail.ParseAddress(raw); err != nil || a.Address != raw || a.Name != "" ||
		!ascii(raw) || len(raw) > maxText {
		return "", fault.Field("support",
			"%q is neither the address of a page nor an e-mail address, such as help@phone.example.org", raw)
	}
	return raw, nil
}

// Link is the URL of one of the operator's pages, or of the support. Name is terms, privacy,
// imprint or support.
type Link struct{ Name, URL string }

// Links returns the links that are set, in the order in which people see them.
func (s Settings) Links() (list []Link) {
	for _, link := range []Link{
		{"terms", s.TermsURL}, {"privacy", s.PrivacyURL}, {"imprint", s.ImprintURL}, {"support", s.SupportURL()},
	} {
		if link.URL != "" {
			list = append(list, link)
		}
	}
	return list
}

// SupportURL returns the URL of the operator's support, or "" if there is none.
func (s Settings) SupportURL() string {
	if s.Support == "" || strings.Contains(s.Support, "://") {
		return s.Support
	}
	return "mailto:" + url.PathEscape(s.Support)
}
