// Package form reads HTML forms (application/x-www-form-urlencoded, and multipart/form-data without
// files) the same way on every listener.
//
// Parsing is strict, because an attacker can exploit two programs that read one text differently:
// one checks the first of two fields with the same name, and the other uses the second. A field
// must be sent once, be well-formed, and contain UTF-8 without control characters. Every refusal is
// a *fault.Error of the kind fault.Invalid, and names the field if there is one. The order of the
// checks is fixed.
//
// Parse works in place: it allocates only for values that are percent-encoded.
//
// The package does not know the fields of any form. Callers check the meaning of values.
package form

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"dialtone/internal/fault"
)

// The media types of a form.
const (
	Type      = "application/x-www-form-urlencoded"
	Multipart = "multipart/form-data"
)

var (
	errEncoding  = fault.New(fault.Invalid, "the form is not well-formed %s; encode every field", Type)
	errMultipart = fault.New(fault.Invalid, "the form is not well-formed %s", Multipart)
	errFile      = fault.New(fault.Invalid, "the form contains a file; send fields only")
	errTruncated = fault.New(fault.Invalid, "the form did not arrive completely; send it again")
	errQuery     = fault.New(fault.Invalid, "send the fields in the body, and nothing after a "+
		"question mark in the address")
)

// Body returns the form in the body of a POST, of at most limit bytes, in the encoding that Parse
// reads. A multipart form is translated, so that the same rules apply to it. Body refuses another
// media type, another charset, a content encoding, and a body that is too long or incomplete. If
// the declared length exceeds the limit, it reads nothing and closes the connection.
func Body(w http.ResponseWriter, r *http.Request, limit int64) (string, error) {
	body, _, err := BodyFile(w, r, limit, "")
	return body, err
}

// BodyFile is like Body for a form that may contain one file, in the named field. It also returns
// the content of the file, or nil if none was chosen.
func BodyFile(w http.ResponseWriter, r *http.Request, limit int64, field string) (string, []byte, error) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || len(r.Header["Content-Type"]) > 1 || media != Type && media != Multipart ||
		charset != "" && !strings.EqualFold(charset, "utf-8") ||
		r.Header.Get("Content-Encoding") != "" {
		return "", nil, errType(media)
	}
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return "", nil, errTooLong(limit)
	}
	// MaxBytesReader can close the connection only through net/http's own ResponseWriter.
	if inner, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		w = inner.Unwrap()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return "", nil, errTooLong(limit)
	}
	if err != nil {
		return "", nil, errTruncated
	}
	if media == Multipart {
		return encode(body, params["boundary"], field)
	}
	return string(body), nil, nil
}

// encode translates a multipart form (RFC 7578) to Type, and returns the content of the file in
// field separately.
func encode(body []byte, boundary, field string) (_ string, content []byte, err error) {
	if boundary == "" {
		return "", nil, errMultipart
	}
	var text strings.Builder
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		// A raw part keeps its transfer encoding, which browsers do not use (RFC 7578 section 4.7).
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return text.String(), content, nil
		}
		if err != nil {
			return "", nil, errMultipart
		}
		value, err := io.ReadAll(part)
		name := part.FormName()
		if err != nil || name == "" || part.Header.Get("Content-Transfer-Encoding") != "" {
			return "", nil, errMultipart
		}
		if _, file := dispositionOf(part)["filename"]; file {
			if name != field || content != nil {
				return "", nil, errFile
			}
			content = value[:len(value):len(value)]
			if len(value) == 0 { // browsers send an empty file if none was chosen
				content = nil
			}
			continue
		}
		if text.Len() > 0 {
			text.WriteByte('&')
		}
		text.WriteString(url.QueryEscape(name))
		text.WriteByte('=')
		text.WriteString(url.QueryEscape(string(value)))
	}
}

func dispositionOf(part *multipart.Part) map[string]string {
	_, params, _ := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	return params
}

// errType returns the error for a wrong media type. It names that type, which is usually JSON.
func errType(media string) error {
	const want = "send the form as " + Type + " or " + Multipart + ", in UTF-8"
	if media == "" || media == Type || media == Multipart || len(media) > 60 {
		return fault.New(fault.Invalid, want)
	}
	return fault.New(fault.Invalid, want+", not as %s", media)
}

func errTooLong(limit int64) error {
	return fault.New(fault.Invalid, "the form is longer than %d KiB; shorten its fields", limit>>10)
}

// NoQuery refuses an address with a query, even an empty one: fields in an address end up in logs
// and in the history of browsers.
func NoQuery(u *url.URL) error {
	if u.RawQuery != "" || u.ForceQuery {
		return errQuery
	}
	return nil
}

// Field is a field that Parse looks for.
type Field struct {
	Name string
	// Value and Sent are set by Parse. A field that was sent may be empty.
	Value string
	Sent  bool
	// Into receives the value as well, unless it is nil.
	Into *string
	// Optional fields never cause a refusal: a repeated, malformed or unprintable one counts as not
	// sent. Use it for fields that older clients may use for something else.
	Optional bool
	// Lines fields may contain line breaks.
	Lines bool

	repeated bool
}

// Mode is how strict Parse is.
type Mode int

const (
	// Strict accepts each field once, and refuses a text if any part of it is malformed.
	Strict Mode = iota
	// Appended is for an address that programs append parameters to. Fields that are not listed may
	// be malformed.
	Appended
	// Loose is for a client that does not encode everything it sends. Fields that are not listed
	// may be malformed, and a field may be repeated with the same value.
	Loose
)

// Parse fills in the fields from a form's body or from a query. It ignores fields that are not
// listed. It checks that the whole text is well-formed, then that no field is repeated, then the
// text of each field; each check goes through fields in order.
func Parse(text string, mode Mode, fields ...*Field) error {
	for text != "" {
		var pair string
		pair, text, _ = strings.Cut(text, "&")
		if err := parsePair(pair, mode, fields); err != nil {
			return err
		}
	}
	for _, f := range fields {
		if f.repeated && !f.Optional {
			return fault.Field(f.Name, "the field was sent more than once; send it once")
		}
	}
	for _, f := range fields {
		if err := f.check(); err != nil {
			return err
		}
		if f.Into != nil && f.Sent {
			*f.Into = f.Value
		}
	}
	return nil
}

func parsePair(pair string, mode Mode, fields []*Field) error {
	name, value, _ := strings.Cut(pair, "=")
	name, ok := unescape(name)
	f := find(fields, name)
	if mode != Strict && (f == nil || !ok) {
		return nil
	}
	if !ok || strings.IndexByte(pair, ';') >= 0 {
		return errEncoding
	}
	if value, ok = unescape(value); !ok {
		return errEncoding
	}
	switch {
	case f == nil:
	case !f.Sent:
		f.Sent, f.Value = true, value
	case mode != Loose || f.Value != value:
		f.repeated = true
	}
	return nil
}

func find(fields []*Field, name string) *Field {
	for _, f := range fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// unescape decodes percent-encoding and plus signs. Most texts contain neither and are returned
// unchanged.
func unescape(text string) (string, bool) {
	if strings.IndexByte(text, '%') < 0 && strings.IndexByte(text, '+') < 0 {
		return text, true
	}
	plain, err := url.QueryUnescape(text)
	return plain, err == nil
}

// check applies the rules for the text of a field that was sent.
func (f *Field) check() error {
	var err error
	switch {
	case !f.Sent:
		return nil
	case !utf8.ValidString(f.Value):
		err = fault.Field(f.Name, "the text is not UTF-8; send it as UTF-8")
	case strings.ContainsFunc(f.Value, func(r rune) bool {
		return isControl(r) && !(f.Lines && (r == '\r' ||
			r == '\n'))
	}):
		err = fault.Rule(f.Name, "control", "the text contains a control character; remove it")
	case !f.repeated:
		return nil
	}
	if f.Optional {
		f.Sent, f.Value = false, ""
		return nil
	}
	return err
}

func isControl(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }
