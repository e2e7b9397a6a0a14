package web

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// maxForm bounds a form; the longest honest signup has about 2 KiB.
const maxForm = 8 << 10

const formType = "application/x-www-form-urlencoded"

// readForm reads the body of a POST: its media type, its size, its place (never the query), then its fields.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || len(r.Header["Content-Type"]) > 1 || media != formType || charset != "" && !strings.EqualFold(charset, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return nil, fault.New(fault.Invalid, "send the form as %s in UTF-8", formType)
	}
	if r.ContentLength > maxForm {
		w.Header().Set("Connection", "close") // rather than read what is coming
		return nil, errTooLong
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return nil, errTooLong
	} else if err != nil {
		return nil, fault.New(fault.Invalid, "the form did not arrive whole; send it again")
	}
	if err := noQuery(r); err != nil {
		return nil, err
	}
	return parseForm(string(body))
}

func noQuery(r *http.Request) error {
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return fault.New(fault.Invalid, "send the fields in the body alone, and nothing behind a question mark in the address")
	}
	return nil
}

// readEmail is the form's one field, which may be missing, as may the form.
func readEmail(w http.ResponseWriter, r *http.Request) (string, error) {
	if r.ContentLength == 0 && r.Header.Get("Content-Type") == "" {
		return "", noQuery(r)
	}
	values, err := readForm(w, r)
	if err != nil {
		return "", err
	}
	email, sent, err := field(values, "email")
	if err == nil && sent {
		_, err = account.CleanEmail(email) // before the proof, so that a slip does not cost a challenge
	}
	return email, err
}

func errTwice(name string) error {
	return fault.Field(name, "the field came more than once; send it once")
}

// field is a field that may be sent once, as a person's text.
func field(values url.Values, name string) (text string, sent bool, err error) {
	switch got := values[name]; len(got) {
	case 0:
		return "", false, nil
	case 1:
		text = got[0]
	default:
		return "", true, errTwice(name)
	}
	if !utf8.ValidString(text) {
		return "", true, fault.Field(name, "the text is not UTF-8; send it as UTF-8")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }) {
		return "", true, fault.Rule(name, "control", "there is a control character in it; leave that out")
	}
	return text, true, nil
}

var errTooLong = fault.New(fault.Invalid, "the form is longer than 8 KiB; shorten its fields")

// parseForm is strict: the standard parser fills in what it could read before an error, and takes the first of two equal
// names, where another program behind or before this one might take the other.
func parseForm(body string) (url.Values, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the form is not well-formed %s; encode every field", formType)
	}
	return values, nil
}

// signupFields are the fields that a signup is refused for. All others are ignored, but for lang (Site.writtenTo).
var signupFields = []string{"user", "name", "email", "ha1", "captcha_token", "captcha_answer", "ha1b", "ha1_sha256"}

// takeSignup takes the known fields out of a parsed body.
func takeSignup(values url.Values) (account.Form, error) {
	var f account.Form
	dst := map[string]*string{
		"user": &f.User, "name": &f.Name, "email": &f.Email, "ha1": &f.HA1,
		"captcha_token": &f.CaptchaToken, "captcha_answer": &f.CaptchaAnswer,
	}
	for _, name := range signupFields {
		if len(values[name]) > 1 {
			return f, errTwice(name)
		}
	}
	for _, name := range signupFields {
		text, sent, err := field(values, name)
		if err != nil {
			return f, err
		}
		if !sent {
			continue
		}
		switch name {
		case "ha1b":
			f.HA1B = &text
		case "ha1_sha256":
			f.HA1SHA256 = &text
		default:
			*dst[name] = text
		}
	}
	return f, nil
}
