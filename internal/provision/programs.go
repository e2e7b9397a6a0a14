package provision

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"text/tabwriter"
)

func (p Phone) text() string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"user name", p.User}, {"password", "the one that was chosen"}, {"domain", p.Domain},
		{"realm", p.Realm}, {"server", p.Server}, {"transport", p.Transport},
		{"websocket", p.WebSocket},
	} {
		if line[1] != "" {
			fmt.Fprintf(out, "%s\t%s\n", line[0], line[1])
		}
	}
	out.Flush()
	return b.String()
}

// xmlFile encodes a value as an XML document.
func xmlFile(name string, v any) (File, error) {
	b, err := xml.MarshalIndent(v, "", "  ")
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	return File{name, "application/xml; charset=utf-8",
		append(append([]byte(xml.Header), b...), '\n')}, nil
}

type linphoneEntry struct {
	Name      string `xml:"name,attr"`
	Overwrite bool   `xml:"overwrite,attr"`
	Value     string `xml:",chardata"`
}

type linphoneSection struct {
	Name    string          `xml:"name,attr"`
	Entries []linphoneEntry `xml:"entry"`
}

// linphone returns a document for Linphone's remote provisioning. The keys are liblinphone's
// (provisioning_configuration_key in its documentation). REGISTER goes to reg_proxy, under the
// domain of reg_identity; reg_route takes calls the same way. Without an auth_info the program asks
// for the password. transient_provisioning makes it forget the address, which works only once.
func (p Phone) linphone() (File, error) {
	type config struct {
		XMLName  xml.Name          `xml:"http://www.linphone.org/xsds/lpconfig.xsd config"`
		Sections []linphoneSection `xml:"section"`
	}
	section := func(name string, pairs ...string) linphoneSection {
		s := linphoneSection{Name: name}
		for i := 0; i < len(pairs); i += 2 {
			s.Entries = append(s.Entries, linphoneEntry{pairs[i], true, pairs[i+1]})
		}
		return s
	}
	server := "<" + p.uri(p.Server) + ">"
	account := []string{"reg_identity", p.quotedName() + "<sip:" + p.User + "@" + p.Domain + ">",
		"reg_proxy", server}
	if p.usesProxy() {
		account = append(account, "reg_route", server)
	}
	account = append(account, "reg_sendregister", "1", "realm", p.Realm)
	return xmlFile("linphone.xml", config{Sections: []linphoneSection{
		section("misc", "transient_provisioning", "1"),
		section("sip", "default_proxy", "0"),
		section("proxy_0", account...),
	}})
}

// zoiper returns a document of Zoiper's XML configuration, which its token-based provisioning
// also accepts (oem.zoiper.com/docs/token-based-provisioning).
func (p Phone) zoiper() (File, error) {
	type account struct {
		Name      string `xml:"name"`
		Protocol  string `xml:"protocol"`
		Username  string `xml:"username"`
		Domain    string `xml:"SIP_domain"`
		UseProxy  bool   `xml:"SIP_use_outbound_proxy"`
		Proxy     string `xml:"SIP_outbound_proxy,omitempty"`
		Transport string `xml:"SIP_transport_type"`
		Caller    string `xml:"SIP_callerId"`
		Register  bool   `xml:"register_on_startup"`
	}
	type options struct {
		XMLName xml.Name `xml:"options"`
		Account account  `xml:"accounts>account"`
	}
	a := account{
		Name: p.User + "@" + p.Domain, Protocol: "sip", Username: p.User, Domain: p.Domain,
		UseProxy:  p.usesProxy(),
		Transport: strings.ToLower(p.Transport), Caller: p.Name, Register: true,
	}
	if a.UseProxy {
		a.Proxy = p.Server
	}
	return xmlFile("zoiper.xml", options{Account: a})
}

// acrobits returns the account XML of Groundwire and Cloud Softphone (doc.acrobits.net,
// "Account XML"). With the transport tls the programs would use sips: addresses, which no
// account here has.
func (p Phone) acrobits() (File, error) {
	type account struct {
		XMLName   xml.Name `xml:"account"`
		Title     string   `xml:"title"`
		Username  string   `xml:"username"`
		Display   string   `xml:"userDisplayName"`
		Host      string   `xml:"host"`
		Proxy     string   `xml:"proxy,omitempty"`
		Transport string   `xml:"transport"`
	}
	a := account{Title: p.Platform, Username: p.User, Display: p.Name, Host: p.Domain,
		Transport: strings.ToLower(p.Transport)}
	if p.usesProxy() {
		a.Proxy = p.Server
	}
	if a.Transport == "tls" {
		a.Transport = "tls+sip:"
	}
	return xmlFile("acrobits.xml", a)
}

// baresip returns a line of baresip's accounts file (docs/examples/accounts in its sources). Without
// auth_pass it asks for the password at the terminal.
func (p Phone) baresip() string {
	line := p.quotedName() + "<" + p.uri(p.User+"@"+p.Domain) + ">;auth_user=" + p.User
	if p.usesProxy() {
		line += `;outbound="` + p.uri(p.Server) + `"`
	}
	return line + ";regint=600\n"
}

// quotedName returns the displayed name in the form that precedes an address (display-name, RFC 3261 section
// 25.1), followed by a space. Programs parse their configuration files more simply than that grammar and do
// not support backslashes, so characters that need one are left out.
func (p Phone) quotedName() string {
	name := strings.TrimSpace(strings.Map(func(r rune) rune {
		if strings.ContainsRune(`"\<>`, r) {
			return -1
		}
		return r
	}, p.Name))
	if name == "" {
		return ""
	}
	return `"` + name + `" `
}

// jssip returns a script for a page that has JsSIP loaded (jssip.net/documentation, "UA Configuration
// Parameters"). Credentials for TURN servers are only available on pages of the platform itself,
// where the person is signed in.
func (p Phone) jssip() (File, error) {
	var b strings.Builder
	b.WriteString("// Needs JsSIP on the page: https://jssip.net/\nconst phone = new JsSIP.UA({\n")
	for _, setting := range []struct{ before, value, after string }{
		{"uri: ", "sip:" + p.User + "@" + p.Domain, ""},
		{"display_name: ", p.Name, ""},
		{"authorization_user: ", p.User, ""},
		{"sockets: [new JsSIP.WebSocketInterface(", p.WebSocket, ")]"},
		{"password: prompt(", "Password of " + p.User + "@" + p.Domain, ")"},
	} {
		value, err := json.Marshal(setting.value) // a string of JSON is one of JavaScript
		if err != nil {
			return File{}, err
		}
		fmt.Fprintf(&b, "  %s%s%s,\n", setting.before, value, setting.after)
	}
	b.WriteString("});\nphone.start();\n")
	if p.TURN {
		b.WriteString(`
// Before a call, on a page of this platform: phone.call(target, { pcConfig: await turn() })
async function turn() {
  const answer = await fetch("/turn");
  const { uris, username, password } = await answer.json();
  return { iceServers: [{ urls: uris, username, credential: password }] };
}
`)
	}
	return File{"phone.js", "text/javascript; charset=utf-8", []byte(b.String())}, nil
}
