package mailmsg

import (
	"bytes"
	"encoding/base64"
	"mime/quotedprintable"
	"strings"
)

// part is one MIME part of a message, in runs of lines.
type part struct {
	contentType, encoding string
	runs                  []run
}

// run is a run of lines. They are encoded, unless they are open: then they contain the token,
// and are encoded by write.
type run struct {
	text string
	open bool
}

// base64Line is the number of bytes encoded in a line of base64, which has 76 characters (RFC 2045 section 6.8).
const base64Line = 76 / 4 * 3

// newPart returns a part with a text whose lines end with \n. If token is not empty, lines that
// contain it are open.
func newPart(contentType, encoding, text, token string) part {
	p := part{contentType, encoding, nil}
	text = strings.ReplaceAll(text, "\n", "\r\n")
	near := len(token) // a line of base64 may contain a part of the token; the rest is within this distance
	start := 0         // of the current run
	for at, end := 0, 0; at < len(text); at = end {
		end = p.lineEnd(text, at)
		open := token != "" && strings.Contains(text[max(0, at-near):min(len(text), end+near)], token)
		if at == 0 || open != p.runs[len(p.runs)-1].open {
			start = at
			p.runs = append(p.runs, run{open: open})
		}
		p.runs[len(p.runs)-1].text = text[start:end]
	}
	for i, r := range p.runs {
		if !r.open {
			b := bytes.NewBuffer(make([]byte, 0, 2*len(r.text)))
			p.encode(b, r.text)
			p.runs[i].text = b.String()
		}
	}
	return p
}

// lineEnd returns the end of the line that begins at an offset. Lines are encoded independently of each other.
func (p part) lineEnd(text string, at int) int {
	if p.encoding == "base64" {
		return min(len(text), at+base64Line)
	}
	line, _, _ := strings.Cut(text[at:], "\n")
	return min(len(text), at+len(line)+1)
}

// write writes the part, with the token old replaced by token.
func (p part) write(b *bytes.Buffer, old, token string) {
	for _, r := range p.runs {
		if r.open {
			p.encode(b, strings.ReplaceAll(r.text, old, token))
		} else {
			b.WriteString(r.text)
		}
	}
}

// encode writes whole lines.
func (p part) encode(b *bytes.Buffer, text string) {
	switch p.encoding {
	case "7bit":
		b.WriteString(text)
	case "base64":
		for text != "" {
			n := min(len(text), base64Line)
			b.Write(append(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), []byte(text[:n])), "\r\n"...))
			text = text[n:]
		}
	default:
		q := quotedprintable.NewWriter(b) // writing to a buffer does not fail
		q.Write([]byte(text))
		q.Close()
	}
}

// encodingOf returns 7bit if the text permits it (RFC 5322 section 2.1.1, RFC 2045 section 2.7),
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
