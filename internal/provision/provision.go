// Package provision says what a person types or scans to set up a phone.
//
// # What is told
//
// Every phone wants the same few settings: who, at which domain, by which server and transport. Each program wants them in a
// form of its own; here they are written. The password is never among them. The server does not have it, and the hash that it
// has is as good as the password and stays where it is. So every program asks for the password once, when it first registers.
// That leaves nothing secret in a file; what a stranger could learn from one is that somebody has an account, and their name.
//
// # Links
//
// A program that fetches its settings gets a link, most often from a QR code. The link is made for a person who is signed in,
// for one program, and is good for a quarter of an hour and for one time. Nothing is stored when it is made: its token says who,
// until when and for which program, under a signature that covers the tenant besides. When it is opened, its id is spent. A link
// that was used, is too old, or is of an account that is disabled or has changed since, is worth nothing, and is told so in the
// same words.
//
// The token is unpadded base64url of
//
//	version (1 byte) ‖ id (16, random) ‖ uid (16) ‖ epoch (8) ‖ Unix seconds of issue (8) ‖ HMAC-SHA-256, cut (16)
//
// and the HMAC covers the tenant and the format besides. It is short so that its QR code is coarse enough for any camera.
package provision

import (
	"slices"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// Format is a form that the settings are given in.
type Format string

// The formats.
const (
	// Text is for people: one setting a line.
	Text Format = "text"
	// Linphone is its remote provisioning: the program fetches it from the address in a QR code.
	Linphone Format = "linphone"
	// Zoiper is its XML configuration, fetched likewise.
	Zoiper Format = "zoiper"
	// Acrobits is the account XML of Groundwire and Cloud Softphone, for an operator's own provisioning service.
	Acrobits Format = "acrobits"
	// Baresip is a line of its file accounts.
	Baresip Format = "baresip"
	// JsSIP is a script for a page.
	JsSIP Format = "jssip"
)

// Formats are all of them.
var Formats = []Format{Text, Linphone, Zoiper, Acrobits, Baresip, JsSIP}

// Fetched are the formats of programs that fetch their settings by a link.
var Fetched = []Format{Linphone, Zoiper}

// File is what a program is given.
type File struct {
	// Name is what the file is called where it is kept, Type its media type.
	Name, Type string
	Text       []byte
}

// Phone is what is to be set up. There is no secret in it.
type Phone struct {
	User, Name string
	// Domain is the right part of the person's address, Realm what their digests are made with.
	Domain, Realm string
	// Server is where requests go, as host or host:port. Transport is the word of SIP for how: UDP, TCP, TLS, WS or WSS.
	Server, Transport string
	// WebSocket is where a phone in a browser connects to, or empty.
	WebSocket string
	// Platform is what people call the tenant.
	Platform string
	// Cloud is the tenant's Cloud ID at Acrobits, or empty.
	Cloud string
	// TURN says that the site gives out credentials for TURN servers.
	TURN bool
}

// New is the phone of an account.
func New(t *tenant.Tenant, a account.Account) Phone {
	return Phone{
		User: a.User, Name: a.Name, Domain: t.Host, Realm: t.Realm, Server: t.Server(), Transport: t.Transport(),
		WebSocket: t.WebSocket(), Platform: t.Name(), Cloud: t.AcrobitsCloud, TURN: len(t.TURNURIs) > 0,
	}
}

// In writes the settings in a format. It fails with fault.Invalid where a program of that kind cannot reach the platform.
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
	return File{}, fault.Field("format", "there is no format %q; use one of %s", string(f), Names())
}

// Offers reports whether a person of the platform can use the format: whether such a program reaches it, and for Acrobits whether
// there is a code that the program takes.
func (p Phone) Offers(f Format) bool {
	return p.unreachable(f) == "" && (f != Acrobits || p.Cloud != "")
}

// Scan is what the QR code for a format holds where that needs no link, or empty.
func (p Phone) Scan(f Format) string {
	if f != Acrobits || p.Cloud == "" {
		return ""
	}
	// doc.acrobits.net/cloudsoftphone/qr.html: csc:username@CODE; the program then asks for the password. The letters of user
	// names need no percent sign.
	return "csc:" + p.User + "@" + p.Cloud
}

// Names are the names of all formats, in words.
func Names() string {
	var names []string
	for _, f := range Formats {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// unreachable says why a program of that format cannot reach the platform, or nothing.
func (p Phone) unreachable(f Format) string {
	switch {
	case f == JsSIP && p.WebSocket == "":
		return "phones in browsers need a WebSocket, and the platform names none; set it with: dialtone tenant set " + p.Domain + " --sip-websocket wss://…"
	case f != JsSIP && f != Text && !slices.Contains([]string{"UDP", "TCP", "TLS"}, p.Transport):
		return "the platform's transport is " + p.Transport + ", which only phones in browsers use; for other programs set one with: dialtone tenant set " + p.Domain +
			" --sip-transport TLS, and the WebSocket with --sip-websocket"
	}
	return ""
}

// beside reports whether requests go to another place than the domain itself.
func (p Phone) beside() bool { return p.Server != p.Domain }

// uri is a SIP URI of a place, with the transport as phones write it.
func (p Phone) uri(place string) string {
	return "sip:" + place + ";transport=" + strings.ToLower(p.Transport)
}
