package tenant

import (
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
)

// maxText is the maximum length of a text, in bytes.
const maxText = 200

// check returns the settings in canonical form. It fails with fault.Invalid.
func (s Settings) check() (Settings, error) {
	var err error
	for i, origin := range s.Origins {
		if s.Origins[i], err = checkURL("origin", origin); err != nil {
			return s, err
		}
	}
	if err := s.checkTexts(); err != nil {
		return s, err
	}
	if s, err = s.checkBrand(); err != nil {
		return s, err
	}
	if s, err = s.checkPhones(); err != nil {
		return s, err
	}
	switch s.Algorithm {
	case "", digest.MD5, digest.SHA256:
	default:
		return s, fault.Field("algorithm", "%q is not a sign-in algorithm; use MD5 or SHA-256",
			string(s.Algorithm))
	}
	switch s.Activation {
	case "", ActivationLink, ActivationConfirm:
	default:
		return s, fault.Field("activation", "%q is not a way to activate accounts; use link or confirm",
			string(s.Activation))
	}
	switch s.RequireFactor {
	case "", RequireNone, RequireAdmin:
	default:
		return s, fault.Field("require-second-factor", "%q does not say who needs a second factor; use admin or none",
			string(s.RequireFactor))
	}
	if s.Signups, s.SignupsNote, err = CheckSignups(s.Signups, s.SignupsNote); err != nil {
		return s, err
	}
	if s.SignupsPerHour < 0 {
		return s, fault.Field("signups-per-hour",
			"the limit cannot be negative; use 0 for no limit")
	}
	return s, nil
}

// maxNote is the maximum length of a note about closed signups, in characters.
const maxNote = 300

// CheckSignups returns who can sign up, and a note about it, in canonical form. It fails with fault.Invalid.
func CheckSignups(mode Signups, note string) (Signups, string, error) {
	switch mode {
	case "", SignupsOpen, SignupsClosed:
	default:
		return mode, note, fault.Field("signups", "%q does not say who can sign up; use open or closed", string(mode))
	}
	note, err := checkText("signups-note", note, maxNote)
	return mode, note, err
}

// checkTexts checks the texts of messages.
func (s Settings) checkTexts() error {
	for _, text := range []struct{ field, value string }{
		{"product", s.Product}, {"mail-footer", s.MailFooter},
		{"mail-from", s.MailFrom}, {"reply-to", s.ReplyTo},
	} {
		control := func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }
		if len(text.value) > maxText || strings.ContainsFunc(text.value, control) || i18n.Hidden(text.value, true) {
			return fault.Field(text.field, "%s is longer than %d bytes or contains a control character",
				text.field, maxText)
		}
	}
	for _, address := range []struct{ field, value string }{
		{"mail-from", s.MailFrom}, {"reply-to", s.ReplyTo},
	} {
		a, err := mail.ParseAddress(address.value)
		if address.value != "" &&
			(err != nil || a.Address != address.value || a.Name != "" || !ascii(address.value)) {
			return fault.Field(address.field,
				"%q is not a plain e-mail address; use one such as no-reply@phone.example.org",
				address.value)
		}
	}
	return nil
}

// checkPhones checks the settings for phones.
func (s Settings) checkPhones() (Settings, error) {
	if s.SIPServer != "" && !validHostPort(s.SIPServer) {
		return s, fault.Field("sip-server",
			"%q is not of the form host or host:port, such as sip.example.org:5061", s.SIPServer)
	}
	s.SIPTransport = strings.ToUpper(s.SIPTransport)
	if s.SIPTransport != "" && !slices.Contains(transports, s.SIPTransport) {
		return s, fault.Field("sip-transport", "%q is not a SIP transport; use one of %s",
			s.SIPTransport, strings.Join(transports, ", "))
	}
	if err := checkWebSocket(s.SIPWebSocket); err != nil {
		return s, err
	}
	id := strings.TrimSuffix(s.AcrobitsCloud, "*")
	const idLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if len(id) > 32 || strings.Trim(strings.ToUpper(id), idLetters) != "" ||
		id == "" && s.AcrobitsCloud != "" {
		return s, fault.Field("acrobits-cloud-id",
			"%q is not a Cloud ID; use letters and digits, followed by * for the test version",
			s.AcrobitsCloud)
	}
	var err error
	if s.TURNURIs, err = checkTURN(s.TURNURIs); err != nil {
		return s, err
	}
	life := time.Duration(s.TURNSeconds) * time.Second
	if s.TURNSeconds != 0 && (life < minTURNLife || life > MaxTURNLife) {
		return s, fault.Field("turn-life",
			"a TURN credential can be valid for 1 minute to 24 hours, not for %v", life)
	}
	return s, nil
}

// transports are the SIP transports of RFC 3261 and RFC 7118, as phones show them.
var transports = []string{"UDP", "TCP", "TLS", "WS", "WSS"}

// validHostPort reports whether a text is a host name or address, with or without a port. IPv6
// addresses are in brackets.
func validHostPort(text string) bool {
	host, port := text, ""
	if i := strings.LastIndexByte(text, ':'); i > strings.LastIndexByte(text, ']') {
		host, port = text[:i], text[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		address, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && strings.HasSuffix(inner, "]") && address.Is6() && address.Zone() == ""
	}
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-."
	return len(host) <= 253 && validLabels(host) && strings.Trim(strings.ToLower(host), allowed) == ""
}

// checkWebSocket checks a WebSocket URL to which a browser can connect from a page over TLS.
func checkWebSocket(raw string) error {
	if raw == "" {
		return nil
	}
	unsafe := func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("\"\\<>`", r)
	}
	u, err := url.Parse(raw)
	if err != nil || len(raw) > 200 || !validHostPort(u.Host) || u.User != nil || u.Fragment != "" ||
		strings.ContainsFunc(raw, unsafe) {
		return fault.Field("sip-websocket",
			"%q is not of the form wss://host, wss://host:port or wss://host:port/path", raw)
	}
	if u.Scheme != "wss" && !(u.Scheme == "ws" && Loopback(u.Hostname())) {
		return fault.Field("sip-websocket",
			"%q does not begin with wss://; ws:// is only allowed for localhost, "+
				"because browsers do not allow it on pages over TLS", raw)
	}
	return nil
}

const (
	minTURNLife = time.Minute
	// MaxTURNLife is the longest time for which a TURN credential can be valid.
	MaxTURNLife = 24 * time.Hour
	// maxTURN is the maximum number of TURN servers. A browser contacts all of them, and more than
	// a few slow it down.
	maxTURN = 8
)

// checkTURN checks TURN URIs (RFC 7065 section 3.1): turn:host or turns:host, with or without a
// port, with or without ?transport=udp or ?transport=tcp.
func checkTURN(list []string) ([]string, error) {
	if len(list) > maxTURN {
		return list, fault.Field("turn-uri",
			"there are %d TURN servers; use at most %d, because a browser contacts all of them",
			len(list), maxTURN)
	}
	for i, raw := range list {
		uri := strings.ToLower(raw)
		scheme, rest, _ := strings.Cut(uri, ":")
		server, transport, found := strings.Cut(rest, "?")
		if scheme != "turn" && scheme != "turns" || !validHostPort(server) ||
			found && transport != "transport=udp" && transport != "transport=tcp" {
			return list, fault.Field("turn-uri",
				"%q is not a TURN server; use a URI such as turn:turn.example.org:3478?transport=udp "+
					"or turns:turn.example.org:5349", raw)
		}
		if slices.Contains(list[:i], uri) {
			return list, fault.Field("turn-uri", "%s is listed twice; list it once", uri)
		}
		list[i] = uri
	}
	return list, nil
}
