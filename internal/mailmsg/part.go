package mailmsg

import (
	"encoding/base64"
	"io"
	"mime/quotedprintable"
)

// part is one MIME part of a message. Its text has CRLF line ends.
type part struct{ contentType, encoding, text string }

func (p part) write(w io.Writer) error {
	switch p.encoding {
	case "7bit":
		_, err := io.WriteString(w, p.text)
		return err
	case "base64":
		return writeBase64(w, p.text)
	}
	q := quotedprintable.NewWriter(w)
	if _, err := io.WriteString(q, p.text); err != nil {
		return err
	}
	return q.Close()
}

// writeBase64 writes base64 in lines of 76 characters (RFC 2045 section 6.8).
func writeBase64(w io.Writer, text string) error {
	const bytes = 76 / 4 * 3
	lines := make([]byte, 0, (len(text)/bytes+1)*78)
	for text != "" {
		n := min(len(text), bytes)
		lines = append(base64.StdEncoding.AppendEncode(lines, []byte(text[:n])), '\r', '\n')
		text = text[n:]
	}
	_, err := w.Write(lines)
	return err
}

// encodingOf returns 7bit if the text allows it (RFC 5322 section 2.1.1, RFC 2045 section 2.7),
// otherwise the shorter encoding: quoted-printable writes three bytes for each byte that is not
// ASCII, base64 four for any three.
func encodingOf(text string) string {
	line, foreign, plain := 0, 0, true
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\n':
			line = 0
		case c < ' ' || c >= 0x7f:
			foreign++
		default:
			line++
			plain = plain && line <= 998
		}
	}
	switch {
	case foreign == 0 && plain:
		return "7bit"
	case foreign > len(text)/6:
		return "base64"
	default:
		return "quoted-printable"
	}
}
