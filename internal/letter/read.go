package letter

import (
	"dialtone/internal/secret"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
)

// Text is the decoded text of a message that Bytes made, with \n at the end of lines.
func Text(m *mail.Message) (string, error) {
	body := io.Reader(m.Body)
	if m.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(body)
	}
	b, err := io.ReadAll(io.LimitReader(body, 1<<20))
	return strings.ReplaceAll(string(b), "\r\n", "\n"), err
}

// Token is the activation token of the link in a message's text.
func Token(text string) (secret.Token, bool) {
	_, rest, ok := strings.Cut(text, linkPath)
	if !ok || len(rest) < secret.TokenLength {
		return secret.Token{}, false
	}
	return secret.ParseToken(rest[:secret.TokenLength])
}

// Decode is a header's text without its encoded words (RFC 2047).
func Decode(header string) string {
	text, err := new(mime.WordDecoder).DecodeHeader(header)
	if err != nil {
		return header
	}
	return text
}
