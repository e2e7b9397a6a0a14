package lookup

import (
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
)

// maxFreeSWITCH bounds a request from FreeSWITCH. A request has about 3 KiB, mostly text from the
// phone.
const maxFreeSWITCH = 32 << 10

// freeswitch answers mod_xml_curl. FreeSWITCH looks up users for many purposes (action). It gets an
// account only for one of them, when a phone has responded to its challenge (sip_auth). The request
// then contains the user name and realm of the response (sip_auth_username, sip_auth_realm), from
// which the hash is computed, and the user and domain that the phone will act as (user, domain).
//
// All four, and the domain that FreeSWITCH searches (key_value), must belong to the same account.
// The phone chooses the realm: without this check, alice of one platform could respond with that
// platform's realm and become alice of another.
//
// FreeSWITCH encodes most fields but not key_value, which a phone can influence. So a field that is
// repeated with another value is refused. FreeSWITCH itself repeats some fields with the same
// value.
func (h *Handler) freeswitch(b []byte, r *request) ([]byte, error) {
	body, err := form.Body(r.w, r.Request, maxFreeSWITCH)
	if err != nil {
		return nil, err
	}
	section, action := form.Field{Name: "section"}, form.Field{Name: "action"}
	username, realm := form.Field{Name: "sip_auth_username"}, form.Field{Name: "sip_auth_realm"}
	user, domain := form.Field{Name: "user"}, form.Field{Name: "domain"}
	key := form.Field{Name: "key_value", Optional: true}
	err = form.Parse(strings.TrimRight(body, "\r\n"), form.Loose,
		&section, &action, &username, &realm, &user, &domain, &key)
	if err != nil {
		return nil, err
	}
	r.setType(answer.XMLType)
	if section.Value != "directory" || action.Value != "sip_auth" ||
		username.Value == "" || user.Value != username.Value {
		return append(b, freeswitchNotFound...), nil
	}
	e, err := h.find(r, realm.Value, username.Value)
	if err == nil && (!e.Tenant.HasDomain(domain.Value) || otherDomain(e.Tenant, key.Value, domain.Value)) {
		err, r.outcome = sipserver.ErrNoAccount, notFound
	}
	if fault.Is(err, fault.NotFound) {
		return append(b, freeswitchNotFound...), nil
	}
	if err != nil {
		return nil, err
	}
	h.deps.Registry.Found(r.Context(), r.caller, e, sipserver.HowFreeSWITCH)
	b = append(b, `<document type="freeswitch/xml"><section name="directory"><domain name="`...)
	b = appendXML(b, domain.Value)
	b = append(b, `"><groups><group name="dialtone"><users><user id="`...)
	b = appendXML(b, user.Value)
	b = append(b, `"><params><param name="a1-hash" value="`...)
	b = e.HA1.AppendHex(b)
	b = append(b, `"/><param name="allow-empty-password" value="false"/></params>`...)
	b = append(b, `<variables><variable name="user_context" value="`...)
	b = append(append(b, contextPrefix...), e.Role...)
	b = append(b, `"/><variable name="dialtone_role" value="`...)
	b = append(b, e.Role...)
	b = append(b, `"/></variables></user></users></group></groups></domain></section></document>`...)
	return append(b, '\n'), nil
}

// otherDomain reports whether key, the domain whose users FreeSWITCH is looking for, is another
// tenant's than domain. Since FreeSWITCH does not encode it, only names without special characters
// can be compared.
func otherDomain(t *tenant.Tenant, key, domain string) bool {
	special := func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	}
	return key != "" && !strings.ContainsFunc(key+domain, special) && !t.HasDomain(key)
}

// contextPrefix, followed by a role, is the name of the dialplan context in which calls of an
// account start. Without a context of that name, the account cannot make calls.
const contextPrefix = "dialtone-"

const freeswitchNotFound = `<document type="freeswitch/xml"><section name="result">` +
	`<result status="not found"/></section></document>` + "\n"

// appendXML appends text as the value of an attribute. The text must not contain control
// characters.
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
