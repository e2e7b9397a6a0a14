package web

import (
	"net/http"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/form"
	"dialtone/internal/session"
)

// maxForm bounds a form. The longest realistic signup has about 2 KiB.
const maxForm = 8 << 10

// readForm fills in the fields from the body of a POST. Fields in the address are refused.
func readForm(w http.ResponseWriter, r *http.Request, fields ...*form.Field) error {
	body, err := form.Body(w, r, maxForm)
	if err != nil {
		return err
	}
	if err := form.NoQuery(r.URL); err != nil {
		return err
	}
	return form.Parse(body, form.Strict, fields...)
}

// readSignup reads a signup, and the language that its form requests. The language may be any text:
// clients that are older than this field may use its name for something else.
func readSignup(w http.ResponseWriter, r *http.Request) (f account.Form, lang string, err error) {
	ha1b, sha256 := form.Field{Name: "ha1b"}, form.Field{Name: "ha1_sha256"}
	err = readForm(w, r,
		&form.Field{Name: "user", Into: &f.User},
		&form.Field{Name: "name", Into: &f.Name},
		&form.Field{Name: "email", Into: &f.Email},
		&form.Field{Name: "ha1", Into: &f.HA1},
		&form.Field{Name: "captcha_token", Into: &f.CaptchaToken},
		&form.Field{Name: "captcha_answer", Into: &f.CaptchaAnswer},
		&ha1b,
		&sha256,
		&form.Field{Name: "lang", Into: &lang, Optional: true},
	)
	if ha1b.Sent {
		f.HA1B = &ha1b.Value
	}
	if sha256.Sent {
		f.HA1SHA256 = &sha256.Value
	}
	return f, lang, err
}

// readEmail reads the form of a resend, whose only field may be missing, as may the whole form.
func readEmail(w http.ResponseWriter, r *http.Request, _ *session.Attempt) (string, error) {
	if r.ContentLength == 0 && r.Header.Get("Content-Type") == "" {
		return "", form.NoQuery(r.URL)
	}
	email := form.Field{Name: "email"}
	if err := readForm(w, r, &email); err != nil || !email.Sent {
		return "", err
	}
	// The address is checked before the proof, so that a typing mistake does not use up a
	// challenge.
	_, err := account.CleanEmail(email.Value)
	return email.Value, err
}

// readToken reads the form of a confirmation.
func readToken(w http.ResponseWriter, r *http.Request, at *session.Attempt) (string, error) {
	token := form.Field{Name: "token"}
	if err := readForm(w, r, &token); err != nil {
		return "", err
	}
	if token.Value == "" {
		return "", fault.Field("token", "send the token of the link")
	}
	at.Link = token.Value
	return token.Value, nil
}
