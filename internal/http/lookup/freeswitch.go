package lookup

import (
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/phone"
)

// maxFreeSWITCH bounds what FreeSWITCH sends: some 3 KiB, most of which a phone has written.
const maxFreeSWITCH = 32 << 10

// freeswitch is the directory of mod_xml_curl. FreeSWITCH asks for a user in many a situation (action); of accounts it is told in one,
// when a phone has answered its challenge (sip_auth). It then has the user name and the realm that the phone sent
// (sip_auth_username, sip_auth_realm), which the hash is of, and the user and domain under which it will go on (user, domain).
//
// All four have to mean one account. The realm is the phone's own choice: whoever is alice at one platform could otherwise answer
// with that platform's realm and become alice at another.
//
// FreeSWITCH encodes most of the fields and not key_value, which a phone can have a part in. So a field that comes twice, with two
// values, is refused; it repeats some of them itself, with the same value.
func (s *Site) freeswitch(b []byte, ask *ask) ([]byte, error) {
	body, err := ask.form(maxFreeSWITCH)
	if err != nil {
		return nil, err
	}
	fields := [...]field{{name: "section"}, {name: "action"}, {name: "sip_auth_username"}, {name: "sip_auth_realm"}, {name: "user"}, {name: "domain"}}
	if err := take(strings.TrimRight(body, "\r\n"), true, fields[:]); err != nil {
		return nil, err
	}
	ask.header["Content-Type"] = xmlType
	section, action, username, realm, user, domain := fields[0].value, fields[1].value, fields[2].value, fields[3].value, fields[4].value, fields[5].value
	if section != "directory" || action != "sip_auth" || username == "" || user != username {
		return append(b, freeswitchNone...), nil
	}
	e, err := s.phones.Find(ask.Context(), ask.caller, realm, username)
	if err == nil && !e.Tenant.HasDomain(domain) {
		err = phone.ErrNone
	}
	if fault.Is(err, fault.NotFound) {
		return append(b, freeswitchNone...), nil
	} else if err != nil {
		return nil, err
	}
	b = append(b, `<document type="freeswitch/xml"><section name="directory"><domain name="`...)
	b = appendXML(b, domain)
	b = append(b, `"><groups><group name="dialtone"><users><user id="`...)
	b = appendXML(b, user)
	b = append(b, `"><params><param name="a1-hash" value="`...)
	b = e.HA1.AppendHex(b)
	b = append(b, `"/><param name="allow-empty-password" value="false"/></params><variables><variable name="user_context" value="`...)
	b = append(append(b, contextPrefix...), e.Role...)
	b = append(b, `"/><variable name="dialtone_role" value="`...)
	b = append(b, e.Role...)
	return append(b, "\"/></variables></user></users></group></groups></domain></section></document>\n"...), nil
}

// contextPrefix is before the role in the name of the dialplan's context that a call of the account begins in. A dialplan that has no
// context of that name lets the account call nobody.
const contextPrefix = "dialtone-"

const freeswitchNone = `<document type="freeswitch/xml"><section name="result"><result status="not found"/></section></document>` + "\n"

// appendXML appends a text as an attribute's value. It has no control characters in it.
func appendXML(b []byte, text string) []byte {
	for i := range len(text) {
		switch c := text[i]; c {
		case '&':
			b = append(b, "&amp;"...)
		case '<':
			b = append(b, "&lt;"...)
		case '>':
			b = append(b, "&gt;"...)
		case '"':
			b = append(b, "&#34;"...)
		case '\'':
			b = append(b, "&#39;"...)
		default:
			b = append(b, c)
		}
	}
	return b
}
