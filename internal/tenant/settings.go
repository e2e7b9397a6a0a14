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
)

// maxText is the longest text among the settings, in bytes.
const maxText = 200

func (s Settings) check() (Settings, error) {
	var err error
	for i, origin := range s.Origins {
		if s.Origins[i], err = checkURL("origin", origin); err != nil {
			return s, err
		}
	}
	if s.SIPServer != "" && !hostPort(s.SIPServer) {
		return s, fault.Field("sip-server", "%q is not of the form host or host:port, such as sip.example.org:5061", s.SIPServer)
	}
	if s.SIPTransport = strings.ToUpper(s.SIPTransport); s.SIPTransport != "" && !slices.Contains(transports, s.SIPTransport) {
		return s, fault.Field("sip-transport", "%q is no transport of SIP; use one of %s", s.SIPTransport, strings.Join(transports, ", "))
	}
	if err := checkWebSocket(s.SIPWebSocket); err != nil {
		return s, err
	}
	if id := strings.TrimSuffix(s.AcrobitsCloud, "*"); len(id) > 32 || strings.Trim(strings.ToUpper(id), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" || id == "" && s.AcrobitsCloud != "" {
		return s, fault.Field("acrobits-cloud-id", "%q is no Cloud ID; it has letters and digits alone, and a * behind them for the test version", s.AcrobitsCloud)
	}
	if s.TURNURIs, err = checkTURN(s.TURNURIs); err != nil {
		return s, err
	}
	if life := time.Duration(s.TURNSeconds) * time.Second; s.TURNSeconds != 0 && (life < leastTURNLife || life > MostTURNLife) {
		return s, fault.Field("turn-life", "a TURN credential is good for 1 minute to 24 hours; %v is outside of that", life)
	}
	for _, text := range []struct{ field, value string }{
		{"product", s.Product}, {"mail-footer", s.MailFooter}, {"mail-from", s.MailFrom}, {"reply-to", s.ReplyTo},
	} {
		if len(text.value) > maxText || strings.ContainsFunc(text.value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			return s, fault.Field(text.field, "%s is longer than %d bytes or has a control character in it", text.field, maxText)
		}
	}
	for _, address := range []struct{ field, value string }{{"mail-from", s.MailFrom}, {"reply-to", s.ReplyTo}} {
		a, err := mail.ParseAddress(address.value)
		if address.value != "" && (err != nil || a.Address != address.value || a.Name != "" || !ascii(address.value)) {
			return s, fault.Field(address.field, "%q is not one plain e-mail address; give one such as no-reply@phone.example.org", address.value)
		}
	}
	switch s.Algorithm {
	case "", digest.MD5, digest.SHA256:
	default:
		return s, fault.Field("algorithm", "%q is no algorithm of sign-in; use MD5 or SHA-256", string(s.Algorithm))
	}
	switch s.Activation {
	case "", ActivationLink, ActivationConfirm:
	default:
		return s, fault.Field("activation", "%q is no way of activating accounts; use link or confirm", string(s.Activation))
	}
	if s.SignupsPerHour < 0 {
		return s, fault.Field("signups-per-hour", "a ceiling below zero means nothing; use 0 for none")
	}
	return s, nil
}

// transports are those of RFC 3261 and RFC 7118, as phones show them.
var transports = []string{"UDP", "TCP", "TLS", "WS", "WSS"}

// hostPort reports whether a text is a host name or address, with or without a port. IPv6 addresses stand in brackets.
func hostPort(text string) bool {
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
	return len(host) <= 253 && labels(host) && strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// checkWebSocket takes the address of a WebSocket, as a browser connects to it from a page that came over TLS.
func checkWebSocket(raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil || len(raw) > 200 || !hostPort(u.Host) || u.User != nil || u.Fragment != "" ||
		strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"\\<>`", r) }) {
		return fault.Field("sip-websocket", "%q is not of the form wss://host, wss://host:port or wss://host:port/path", raw)
	}
	if u.Scheme != "wss" && !(u.Scheme == "ws" && Loopback(u.Hostname())) {
		return fault.Field("sip-websocket", "%q does not begin with wss://; ws:// is for localhost alone, since pages over TLS may not use it", raw)
	}
	return nil
}

const (
	leastTURNLife = time.Minute
	// MostTURNLife is the longest life of a TURN credential that a tenant may choose.
	MostTURNLife = 24 * time.Hour
	// mostTURN bounds the servers of a tenant: a browser asks all of them, and becomes slow with more than a few.
	mostTURN = 8
)

// checkTURN takes URIs as RFC 7065 §3.1 has them: turn:host, turns:host:port, and either with ?transport=udp or ?transport=tcp.
func checkTURN(list []string) ([]string, error) {
	if len(list) > mostTURN {
		return list, fault.Field("turn-uri", "there are %d TURN servers; give at most %d, since a browser asks them all", len(list), mostTURN)
	}
	for i, raw := range list {
		uri := strings.ToLower(raw)
		scheme, rest, _ := strings.Cut(uri, ":")
		server, transport, chosen := strings.Cut(rest, "?")
		if scheme != "turn" && scheme != "turns" || !hostPort(server) || chosen && transport != "transport=udp" && transport != "transport=tcp" {
			return list, fault.Field("turn-uri", "%q is no TURN server; give one such as turn:turn.example.org:3478?transport=udp or turns:turn.example.org:5349", raw)
		}
		if slices.Contains(list[:i], uri) {
			return list, fault.Field("turn-uri", "%s is there twice; give it once", uri)
		}
		list[i] = uri
	}
	return list, nil
}
