package lookup

import (
	"net/http"
	"strings"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/sipserver"
)

// maxAsterisk bounds what Asterisk sends; it cuts each value at 255 bytes itself.
const maxAsterisk = 16 << 10

// asterisk adds what res_config_curl asks, for each of the tables that accounts make rows of:
//
//	POST single   id=alice%40phone.example.org   the row, as a line, or nothing
//	POST multi    likewise, or id%20LIKE=…       the rows, a line each. A pattern finds none: a platform is not listed
//	POST require  the columns that it knows      0
//	GET  static   file=…                         nothing: there are no files here
//	POST update, store, destroy                  0 rows, since nothing is written
//
// The id is alice@realm, or alice alone for a server that may ask about one tenant.
//
// A row is one line of fields, a failure an empty body: res_config_curl makes a row of whatever comes, whatever the status. It reads a
// number after update, store and destroy, beyond the end of its buffer where there is none; those have one in any case.
func (s *Site) asterisk(table map[string]route) {
	for name, row := range map[string]func([]byte, string, sipserver.Entry) []byte{
		"ps_auths": authRow, "ps_endpoints": endpointRow, "ps_aors": aorRow,
	} {
		path := "/v1/asterisk/" + name + "/"
		rows := func(b []byte, ask *ask) ([]byte, error) { return s.row(b, ask, row) }
		table[path+"single"] = route{http.MethodPost, rows, failEmpty}
		table[path+"multi"] = route{http.MethodPost, rows, failEmpty}
		table[path+"static"] = route{http.MethodGet, textAnswer(""), failEmpty}
		for _, verb := range []string{"require", "update", "store", "destroy"} {
			table[path+verb] = route{http.MethodPost, textAnswer("0\n"), failNumber}
		}
	}
}

func textAnswer(text string) func([]byte, *ask) ([]byte, error) {
	return func(b []byte, ask *ask) ([]byte, error) {
		ask.header["Content-Type"] = textType
		return append(b, text...), nil
	}
}

func failEmpty(b []byte, h http.Header, _ kind, _ error) []byte {
	h["Content-Type"] = textType
	return b
}

func failNumber(b []byte, h http.Header, _ kind, _ error) []byte {
	h["Content-Type"] = textType
	return append(b, "-1\n"...)
}

// row answers with the row of an id.
func (s *Site) row(b []byte, ask *ask, row func([]byte, string, sipserver.Entry) []byte) ([]byte, error) {
	ask.header["Content-Type"] = textType
	body, err := ask.form(maxAsterisk)
	if err != nil {
		return nil, err
	}
	fields := [...]field{{name: "id"}}
	if err := take(body, false, fields[:]); err != nil {
		return nil, err
	}
	id := fields[0].value
	user, realm, with := strings.Cut(id, "@")
	if !with {
		t, ok := s.phones.OnlyTenant(ask.caller)
		if !ok {
			return b, nil
		}
		realm = t.Realm
	}
	e, err := s.phones.Find(ask.Context(), ask.caller, realm, user)
	if fault.Is(err, fault.NotFound) {
		return b, nil
	} else if err != nil {
		return nil, err
	}
	return append(row(b, id, e), '\n'), nil
}

// authRow has the MD5 hash in the column that every Asterisk knows, and the SHA-256 one in that of newer ones (20.12, 21.7, 22.2).
// Those that do not know a column leave it out. SHA-256 is challenged with where the tenant has chosen it.
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

// endpointRow has what phones behind a NAT need besides.
func endpointRow(b []byte, id string, e sipserver.Entry) []byte {
	for _, column := range [...]string{"id=", "&aors=", "&auth="} {
		b = appendEscaped(append(b, column...), id)
	}
	b = append(append(append(b, "&context="...), contextPrefix...), e.Role...)
	b = append(append(b, "&set_var=DIALTONE_ROLE%3D"...), e.Role...)
	return append(b, "&identify_by=username%2Cauth_username&allow=%21all%2Copus%2Cg722%2Culaw%2Calaw"+
		"&direct_media=no&force_rport=yes&rewrite_contact=yes&rtp_symmetric=yes"...)
}

// aorRow lets a person have so many phones. One more takes the place of the one whose registration ends first.
func aorRow(b []byte, id string, _ sipserver.Entry) []byte {
	return append(appendEscaped(append(b, "id="...), id), "&max_contacts=10&remove_existing=yes"...)
}
