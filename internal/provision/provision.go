// Package provision writes the settings that a person types or scans to set up a phone.
//
// # Settings
//
// Every phone needs the same few settings: user, domain, server and transport. Each program
// expects them in a different form. They never include the password: the server does not have
// it, and its hash is password-equivalent and never leaves the server. So every program asks
// for the password once, when it first registers. A file therefore contains no secret. A
// stranger could only learn from it that somebody has an account, and their name.
//
// # Links
//
// A program that fetches its settings gets a link, usually from a QR code. The link is made for a
// person who is signed in, for one program, and works once within 15 minutes. Nothing is stored
// when it is made. When it is opened, its ID is spent. A link that was used, has expired, or
// belongs to an account that was disabled or changed since, fails with the same error.
//
// The token is a ticket of package secret:
//
//	version (1 byte) ‖ ID (16) ‖ account (16) ‖ epoch (8) ‖ Unix seconds of issue (8) ‖ HMAC, truncated (16)
//
// The HMAC also covers the tenant and the format. It is truncated to keep the QR code small enough for any camera.
package provision

import (
	"slices"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// Format is a form of the settings.
type Format string

// The formats.
const (
	// Text is for people: one setting per line.
	Text Format = "text"
	// Linphone is its remote provisioning: the program fetches it from the address in a QR code.
	Linphone Format = "linphone"
	// Zoiper is its XML configuration, fetched in the same way.
	Zoiper Format = "zoiper"
	// Acrobits is the account XML of Groundwire and Cloud Softphone, for an operator's own
	// provisioning service.
	Acrobits Format = "acrobits"
	// Baresip is a line of its accounts file.
	Baresip Format = "baresip"
	// JsSIP is a script for a page.
	JsSIP Format = "jssip"
)

// Formats are all formats.
var Formats = []Format{Text, Linphone, Zoiper, Acrobits, Baresip, JsSIP}

// Fetched are the formats of programs that fetch their settings by a link.
var Fetched = []Format{Linphone, Zoiper}

// File is what a program gets.
type File struct {
	// Name is the name to save the file under, Type its media type.
	Name, Type string
	Text       []byte
}

// Phone contains the settings of a phone. None of them is secret.
type Phone struct {
	User, Name string
	// Domain is the part of the person's SIP address after the @. Realm is the realm of their digests.
	Domain, Realm string
	// Server is where requests are sent, as host or host:port. Transport is the SIP transport:
	// UDP, TCP, TLS, WS or WSS.
	Server, Transport string
	// WebSocket is where a phone in a browser connects to, or empty.
	WebSocket string
	// Platform is the name of the tenant.
	Platform string
	// Cloud is the tenant's Cloud ID at Acrobits, or empty.
	Cloud string
	// TURN means that the site issues credentials for TURN servers.
	TURN bool
}

// New returns the phone of an account.
func New(t *tenant.Tenant, a account.Account) Phone {
	return Phone{
		User: a.User, Name: a.Name, Domain: t.Host, Realm: t.Realm,
		Server: t.Server(), Transport: t.Transport(), WebSocket: t.WebSocket(),
		Platform: t.Name(), Cloud: t.AcrobitsCloud, TURN: len(t.TURNURIs) > 0,
	}
}

// In writes the settings in a format. It fails with fault.Invalid if a program of that kind cannot
// reach the platform.
func (p Phone) In(f Format) (File, error) {
	if why := p.unreachable(f); why != "" {
		return File{}, fault.New(fault.Invalid, "%s", why)
	}
	switch f {
	case Text:
		return File{"phone.txt", "text/plain; charset=utf-8", []byte(p.text())}, nil
	case Linphone:
		return p.linphone()
	case Zoiper:
		return p.zoiper()
	case Acrobits:
		return p.acrobits()
	case Baresip:
		return File{"accounts", "text/plain; charset=utf-8", []byte(p.baresip())}, nil
	case JsSIP:
		return p.jssip()
	}
	return File{}, fault.Field("format", "there is no format %q; use one of %s", string(f), formatNames())
}

// Offers reports whether a person of the platform can use the format: whether such a program
// reaches it, and for Acrobits whether there is a code that the program accepts.
func (p Phone) Offers(f Format) bool {
	return p.unreachable(f) == "" && (f != Acrobits || p.Cloud != "")
}

// Scan returns the content of the QR code for a format if it needs no link, or "".
func (p Phone) Scan(f Format) string {
	if f != Acrobits || p.Cloud == "" {
		return ""
	}
	// See doc.acrobits.net/cloudsoftphone/qr.html: csc:username@CODE. The program then asks for the
	// password. User names need no percent-encoding.
	return "csc:" + p.User + "@" + p.Cloud
}

// formatNames returns the names of all formats, separated by commas.
func formatNames() string {
	var names []string
	for _, f := range Formats {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// unreachable returns why a program of that format cannot reach the platform, or "".
func (p Phone) unreachable(f Format) string {
	switch {
	case f == JsSIP && p.WebSocket == "":
		return "phones in browsers need a WebSocket, and the platform has none; set it with: " +
			"dialtone tenant set " + p.Domain + " --sip-websocket wss://…"
	case f != JsSIP && f != Text && !slices.Contains([]string{"UDP", "TCP", "TLS"}, p.Transport):
		return "the platform's transport is " + p.Transport + ", which only phones in browsers use; " +
			"for other programs set one with: dialtone tenant set " + p.Domain +
			" --sip-transport TLS, and the WebSocket with --sip-websocket"
	}
	return ""
}

// usesProxy reports whether requests are sent to a host other than the domain itself.
func (p Phone) usesProxy() bool { return p.Server != p.Domain }

// uri returns a SIP URI of a host with the transport.
func (p Phone) uri(host string) string {
	return "sip:" + host + ";transport=" + strings.ToLower(p.Transport)
}
