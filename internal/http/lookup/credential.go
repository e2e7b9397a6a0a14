package lookup

import (
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/sipserver"
)

// credential answers
//
//	GET /v1/sip/credential?username=alice&realm=phone.example.org&algorithm=MD5
//	200 {"username":"alice","realm":"phone.example.org","algorithm":"MD5","ha1":"…","role":"guest"}
//
// The user name may be alice@phone.example.org, for which there is an MD5 hash only. The algorithm
// is MD5, the default (RFC 7616, section 3.3), or SHA-256. The realm of the answer is spelled as in
// the hash, and the challenge must spell it the same way.
func (h *Handler) credential(b []byte, r *request) ([]byte, error) {
	username, realm := form.Field{Name: "username"}, form.Field{Name: "realm"}
	algorithmField := form.Field{Name: "algorithm"}
	if err := form.Parse(r.URL.RawQuery, form.Strict, &username, &realm, &algorithmField); err != nil {
		return nil, err
	}
	if username.Value == "" || realm.Value == "" {
		return nil, fault.New(fault.Invalid, "username and realm required")
	}
	algorithm := digest.Algorithm(algorithmField.Value)
	switch {
	case !algorithmField.Sent:
		algorithm = digest.MD5
	case algorithm != digest.MD5 && algorithm != digest.SHA256:
		return nil, fault.Field("algorithm", "use MD5 or SHA-256")
	}
	e, err := h.find(r, realm.Value, username.Value)
	if err != nil {
		return nil, err
	}
	if algorithm == digest.SHA256 && e.SHA256 == nil {
		return nil, sipserver.ErrNoAccount
	}
	h.deps.Registry.Found(r.Context(), r.caller, e, sipserver.HowCredential)
	// The characters that user names, realms and roles may have need no escaping in JSON.
	b = append(append(b, `{"username":"`...), e.Username...)
	b = append(append(b, `","realm":"`...), e.Tenant.Realm...)
	b = append(append(b, `","algorithm":"`...), algorithm...)
	b = append(b, `","ha1":"`...)
	if algorithm == digest.SHA256 {
		b = e.SHA256.AppendHex(b)
	} else {
		b = e.HA1.AppendHex(b)
	}
	b = append(append(b, `","role":"`...), e.Role...)
	r.setType(answer.JSONType)
	return append(b, "\"}\n"...), nil
}
