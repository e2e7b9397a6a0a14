package lookup

import (
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/sipserver"
)

// credential is
//
//	GET /v1/sip/credential?username=alice&realm=phone.example.org&algorithm=MD5
//	200 {"username":"alice","realm":"phone.example.org","algorithm":"MD5","ha1":"…","role":"guest"}
//
// The user name may be alice@phone.example.org, for which there is an MD5 hash alone. The algorithm is MD5, also where it is not
// sent (RFC 7616 §3.3), or SHA-256. The answer's realm is the one in the hash: that of the challenge must be the same, in its very
// letters.
func (s *Site) credential(b []byte, ask *ask) ([]byte, error) {
	fields := [...]field{{name: "username"}, {name: "realm"}, {name: "algorithm"}}
	if err := take(ask.URL.RawQuery, false, fields[:]); err != nil {
		return nil, err
	}
	username, realm, algorithm := fields[0].value, fields[1].value, digest.Algorithm(fields[2].value)
	if username == "" || realm == "" {
		return nil, fault.New(fault.Invalid, "username and realm required")
	}
	switch {
	case !fields[2].sent:
		algorithm = digest.MD5
	case algorithm != digest.MD5 && algorithm != digest.SHA256:
		return nil, fault.Field("algorithm", "ask for MD5 or SHA-256")
	}
	e, err := s.phones.Find(ask.Context(), ask.caller, realm, username)
	if err != nil {
		return nil, err
	}
	if algorithm == digest.SHA256 && e.SHA256 == nil {
		return nil, sipserver.ErrNoAccount
	}
	// What a user name, a realm and a role may consist of needs no escaping in JSON.
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
	ask.header["Content-Type"] = jsonType
	return append(b, "\"}\n"...), nil
}
