package mailmsg

import (
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"

	"dialtone/internal/secret"
)

// Text returns the decoded plain text of a message built by Bytes, with \n line ends.
func Text(m *mail.Message) (string, error) {
	text, _, err := Parts(m)
	return text, err
}

// Parts returns the decoded plain text and HTML of a message built by Bytes, with \n line ends. The
// HTML is empty if the message has none.
func Parts(m *mail.Message) (text, html string, err error) {
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return "", "", err
	}
	if media != "multipart/alternative" {
		text, err = decode(m.Body, m.Header.Get("Content-Transfer-Encoding"))
		return text, "", err
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for _, part := range []*string{&text, &html} {
		p, err := r.NextRawPart()
		if err != nil {
			return "", "", errors.New("the message has no parts")
		}
		if *part, err = decode(p, p.Header.Get("Content-Transfer-Encoding")); err != nil {
			return "", "", err
		}
	}
	return text, html, nil
}

func decode(body io.Reader, encoding string) (string, error) {
	switch encoding {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(io.LimitReader(body, 1<<20))
	return strings.ReplaceAll(string(b), "\r\n", "\n"), err
}

// Token returns the token of the link in a text.
func Token(text string) (secret.Token, bool) {
	for _, path := range linkPaths {
		if _, rest, ok := strings.Cut(text, path); ok && len(rest) >= secret.TokenLength {
			return secret.ParseToken(rest[:secret.TokenLength])
		}
	}
	return secret.Token{}, false
}

// Decode decodes the encoded words of a header (RFC 2047).
func Decode(header string) string {
	text, err := new(mime.WordDecoder).DecodeHeader(header)
	if err != nil {
		return header
	}
	return text
}

// Domain returns the domain of an e-mail address: the part after the last @.
func Domain(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
