package userfile

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
)

// Exported is an account to write.
type Exported struct {
	account.Account
	Realm string
	// Credential is nil without credentials.
	Credential *digest.Credential
}

// Writer writes accounts in a format. Close must be called after the last one.
type Writer interface {
	Write(Exported) error
	Close() error
}

// Formats that are only written. KamailioSQL and KamailioCSV contain the rows of the table
// subscriber.
const (
	KamailioCSV Format = "kamailio-csv"
	KamailioSQL Format = "kamailio-sql"
	CoturnSQL   Format = "coturn-sql"
	PJSIP       Format = "pjsip"
)

// ExportFormats are the formats that are written.
var ExportFormats = []Format{
	Htdigest, KamailioCSV, KamailioSQL, FreeSWITCH, PJSIP, CoturnSQL, CSV, JSONLines,
}

// NeedsCredentials reports whether a format consists of HA1s.
func NeedsCredentials(f Format) bool { return f != CSV && f != JSONLines }

// NewWriter returns a writer to out. comment is a line for the beginning of formats that have comments.
func NewWriter(f Format, out io.Writer, comment string) (Writer, error) {
	b := bufio.NewWriterSize(out, maxValue)
	switch f {
	case Htdigest:
		return &lines{out: b, line: func(e Exported) string {
			return e.User + ":" + e.Realm + ":" + e.Credential.HA1.Hex()
		}}, nil
	case KamailioCSV:
		return newCSVWriter(b, []string{"username", "domain", "password", "ha1", "ha1b", "email_address"},
			func(e Exported) []string {
				ha1, ha1b, _ := hashes(e)
				return []string{e.User, e.Realm, "", ha1, ha1b, e.Email}
			})
	case CSV:
		return newCSVWriter(b, PlainColumns, func(e Exported) []string {
			ha1, ha1b, sum := hashes(e)
			return []string{e.User, e.Realm, e.Name, e.Email, string(e.Role), string(e.Lang), ha1, ha1b, sum}
		})
	case JSONLines:
		w := jsonWriter{b, json.NewEncoder(b)}
		w.json.SetEscapeHTML(false)
		return w, nil
	case KamailioSQL:
		return &lines{out: b, first: "-- " + comment, line: func(e Exported) string {
			ha1, ha1b, _ := hashes(e)
			return "INSERT INTO subscriber (username, domain, password, ha1, ha1b) VALUES (" +
				sqlTexts(e.User, e.Realm, "", ha1, ha1b) + ");"
		}}, nil
	case CoturnSQL:
		return &lines{out: b, first: "-- " + comment, line: func(e Exported) string {
			return "INSERT INTO turnusers_lt (realm, name, hmackey) VALUES (" +
				sqlTexts(e.Realm, e.User, e.Credential.HA1.Hex()) + ");"
		}}, nil
	case PJSIP:
		return &lines{out: b, first: "; " + comment, line: func(e Exported) string {
			return fmt.Sprintf("\n[%s]\ntype=auth\nauth_type=md5\nusername=%s\nrealm=%s\nmd5_cred=%s",
				e.User, e.User, strings.ReplaceAll(e.Realm, ";", `\;`), e.Credential.HA1.Hex())
		}}, nil
	case FreeSWITCH:
		return &xmlWriter{out: b, comment: comment}, nil
	}
	return nil, fault.New(fault.Invalid, "%q is not a format", string(f))
}

// hashes returns the hashes in hex, empty where there are none.
func hashes(e Exported) (ha1, ha1b, sum string) {
	c := e.Credential
	if c == nil {
		return "", "", ""
	}
	if c.HA1B != nil {
		ha1b = c.HA1B.Hex()
	}
	if c.SHA256 != nil {
		sum = c.SHA256.Hex()
	}
	return c.HA1.Hex(), ha1b, sum
}

// sqlTexts returns string literals of standard SQL. MySQL reads them in the same way, since realms
// and user names contain no backslash.
func sqlTexts(list ...string) string {
	for i, text := range list {
		list[i] = "'" + strings.ReplaceAll(text, "'", "''") + "'"
	}
	return strings.Join(list, ", ")
}

// lines writes a text with a part for each account.
type lines struct {
	out   *bufio.Writer
	first string
	line  func(Exported) string
}

func (w *lines) begin() error {
	if w.first == "" {
		return nil
	}
	_, err := w.out.WriteString(w.first + "\n")
	w.first = ""
	return err
}

func (w *lines) Write(e Exported) error {
	if err := w.begin(); err != nil {
		return err
	}
	_, err := w.out.WriteString(w.line(e) + "\n")
	return err
}

func (w *lines) Close() error {
	if err := w.begin(); err != nil {
		return err
	}
	return w.out.Flush()
}

type csvWriter struct {
	out    *bufio.Writer
	csv    *csv.Writer
	record func(Exported) []string
}

func newCSVWriter(out *bufio.Writer, header []string, record func(Exported) []string) (Writer, error) {
	w := csvWriter{out, csv.NewWriter(out), record}
	return w, w.csv.Write(header)
}

func (w csvWriter) Write(e Exported) error { return w.csv.Write(w.record(e)) }

func (w csvWriter) Close() error {
	w.csv.Flush()
	if err := w.csv.Error(); err != nil {
		return err
	}
	return w.out.Flush()
}

type jsonWriter struct {
	out  *bufio.Writer
	json *json.Encoder
}

func (w jsonWriter) Write(e Exported) error {
	ha1, ha1b, sum := hashes(e)
	return w.json.Encode(struct {
		User   string `json:"user"`
		Realm  string `json:"realm"`
		Name   string `json:"name"`
		Email  string `json:"email"`
		Role   string `json:"role"`
		Lang   string `json:"lang"`
		HA1    string `json:"ha1,omitempty"`
		HA1B   string `json:"ha1b,omitempty"`
		SHA256 string `json:"ha1_sha256,omitempty"`
	}{e.User, e.Realm, e.Name, e.Email, string(e.Role), string(e.Lang), ha1, ha1b, sum})
}

func (w jsonWriter) Close() error { return w.out.Flush() }

// xmlWriter writes a directory of FreeSWITCH with one domain.
type xmlWriter struct {
	out     *bufio.Writer
	comment string
	begun   bool
}

func (w *xmlWriter) begin(realm string) error {
	if w.begun {
		return nil
	}
	w.begun = true
	_, err := fmt.Fprintf(w.out, "<include>\n<!-- %s -->\n<domain name=\"%s\">\n", w.comment, escapeXML(realm))
	return err
}

func (w *xmlWriter) Write(e Exported) error {
	if err := w.begin(e.Realm); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w.out, "  <user id=\"%s\">\n    <params><param name=\"a1-hash\" value=\"%s\"/></params>\n"+
		"    <variables><variable name=\"effective_caller_id_name\" value=\"%s\"/></variables>\n  </user>\n",
		escapeXML(e.User), e.Credential.HA1.Hex(), escapeXML(unexpanded(e.Name, e.User)))
	return err
}

// unexpanded returns a name, or otherwise if FreeSWITCH would replace a part of the name by its own
// variables. People choose their names.
func unexpanded(name, otherwise string) string {
	if strings.Contains(name, "${") {
		return otherwise
	}
	return name
}

func (w *xmlWriter) Close() error {
	if err := w.begin(""); err != nil {
		return err
	}
	if _, err := w.out.WriteString("</domain>\n</include>\n"); err != nil {
		return err
	}
	return w.out.Flush()
}

func escapeXML(text string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(text)); err != nil {
		return ""
	}
	return b.String()
}
