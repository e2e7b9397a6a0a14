package lookup

import (
	"net/http"
	"strings"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/sipserver"
)

// maxAsterisk bounds a request from Asterisk, which truncates each value to 255 bytes itself.
const maxAsterisk = 16 << 10

// appendRow appends the row of an account in one table of Asterisk, for the requested id.
type appendRow func(b []byte, id string, e sipserver.Entry) []byte

// addAsterisk adds the paths of res_config_curl, for each table with a row per account:
//
//	POST single   id=alice%40phone.example.org   the row, as one line, or nothing
//	POST multi    the same, or id%20LIKE=…       the rows, one line each; a pattern matches nothing
//	POST require  the columns that are needed    0
//	GET  static   file=…                         nothing: there are no files
//	POST update, store, destroy                  0 rows, since nothing is written
//
// An id is alice@realm, or alice for a server that may ask about one tenant.
//
// res_config_curl reads every body as a row, whatever the status, so an error has an empty body.
// After require, update, store and destroy it expects a number, and reads past the end of its
// buffer if there is none, so these always answer with one.
func (h *Handler) addAsterisk() {
	for table, row := range map[string]appendRow{
		"ps_auths": authRow, "ps_endpoints": endpointRow, "ps_aors": aorRow,
	} {
		path := "/v1/asterisk/" + table + "/"
		secret := table == "ps_auths"
		serve := func(b []byte, r *request) ([]byte, error) { return h.asterisk(b, r, row, secret) }
		h.routes[path+"single"] = route{method: http.MethodPost, serve: serve, fail: failEmpty, format: asteriskFormat}
		h.routes[path+"multi"] = route{method: http.MethodPost, serve: serve, fail: failEmpty, format: asteriskFormat}
		h.routes[path+"static"] = route{method: http.MethodGet, serve: constant(""), fail: failEmpty}
		for _, verb := range []string{"require", "update", "store", "destroy"} {
			h.routes[path+verb] = route{method: http.MethodPost, serve: constant("0\n"), fail: failNumber}
		}
	}
}

// constant answers with a text.
func constant(text string) func([]byte, *request) ([]byte, error) {
	return func(b []byte, r *request) ([]byte, error) {
		r.setType(answer.TextType)
		return append(b, text...), nil
	}
}

func failEmpty(b []byte, header http.Header, _ error) []byte {
	header["Content-Type"] = answer.TextType
	return b
}

func failNumber(b []byte, header http.Header, _ error) []byte {
	header["Content-Type"] = answer.TextType
	return append(b, "-1\n"...)
}

// asterisk answers with the row of an id. secret means that the row contains the credential.
func (h *Handler) asterisk(b []byte, r *request, row appendRow, secret bool) ([]byte, error) {
	r.setType(answer.TextType)
	body, err := form.Body(r.w, r.Request, maxAsterisk)
	if err != nil {
		return nil, err
	}
	id := form.Field{Name: "id"}
	if err := form.Parse(body, form.Strict, &id); err != nil {
		return nil, err
	}
	user, realm, withRealm := strings.Cut(id.Value, "@")
	if !withRealm {
		t, ok := h.deps.Registry.OnlyTenant(r.caller)
		if !ok {
			r.outcome = notFound
			return b, nil
		}
		realm = t.Realm
	}
	e, err := h.find(r, realm, user)
	if fault.Is(err, fault.NotFound) {
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	if secret {
		h.deps.Registry.Found(r.Context(), r.caller, e, sipserver.HowAsterisk)
	}
	return append(row(b, id.Value, e), '\n'), nil
}

// authRow puts the MD5 hash into the column that every Asterisk knows, and the SHA-256 hash into
// the column of newer versions (20.12, 21.7, 22.2), which older ones ignore. Asterisk uses SHA-256
// in challenges if the tenant has chosen it.
func authRow(b []byte, id string, e sipserver.Entry) []byte {
	b = appendEscaped(append(b, "id="...), id)
	b = append(append(b, "&auth_type=md5&username="...), e.Username...)
	b = appendEscaped(append(b, "&realm="...), e.Tenant.Realm)
	b = e.HA1.AppendHex(append(b, "&md5_cred="...))
	if e.SHA256 != nil {
		b = e.SHA256.AppendHex(append(b, "&password_digest=SHA-256%3A"...))
		if e.Tenant.Challenge() == digest.SHA256 {
			b = append(b, "&supported_algorithms_uas=SHA-256"...)
		}
	}
	return b
}

// endpointRow contains the settings for phones behind a NAT.
func endpointRow(b []byte, id string, e sipserver.Entry) []byte {
	for _, column := range [...]string{"id=", "&aors=", "&auth="} {
		b = appendEscaped(append(b, column...), id)
	}
	b = append(append(append(b, "&context="...), contextPrefix...), e.Role...)
	b = append(append(b, "&set_var=DIALTONE_ROLE%3D"...), e.Role...)
	return append(b, "&identify_by=username%2Cauth_username&allow=%21all%2Copus%2Cg722%2Culaw%2Calaw"+
		"&direct_media=no&force_rport=yes&rewrite_contact=yes&rtp_symmetric=yes"...)
}

// aorRow allows ten phones per account. Another one replaces the phone whose registration expires
// first.
func aorRow(b []byte, id string, _ sipserver.Entry) []byte {
	return append(appendEscaped(append(b, "id="...), id), "&max_contacts=10&remove_existing=yes"...)
}

// appendEscaped percent-encodes all but the unreserved characters of a text (RFC 3986, section
// 2.3): Asterisk does not decode a plus sign as a space.
func appendEscaped(b []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
