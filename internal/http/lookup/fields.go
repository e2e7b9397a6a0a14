package lookup

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"dialtone/internal/fault"
)

// field is a field of a query or a form that is looked for.
type field struct {
	name  string
	value string
	sent  bool
}

// take fills in the fields that a query or a form has. It is strict, since two programs that read one text differently are how one
// name is looked up and another one answered for: each field once, well-formed, UTF-8, without control characters. Fields that
// nobody looks for are ignored. Where alike is said, a field may come again with the same value.
func take(text string, alike bool, fields []field) error {
	for text != "" {
		var pair string
		pair, text, _ = strings.Cut(text, "&")
		if strings.IndexByte(pair, ';') >= 0 {
			return errNotEncoded
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := unescape(name)
		if err != nil {
			return err
		}
		f := find(fields, name)
		if f == nil {
			continue
		}
		if value, err = unescape(value); err != nil {
			return err
		}
		if f.sent && !(alike && f.value == value) {
			return fault.Field(f.name, "the field came more than once; send it once")
		}
		if !utf8.ValidString(value) {
			return fault.Field(f.name, "the text is not UTF-8; send it as UTF-8")
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }) {
			return fault.Field(f.name, "there is a control character in it; leave that out")
		}
		f.value, f.sent = value, true
	}
	return nil
}

func find(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

var errNotEncoded = fault.New(fault.Invalid, "the fields are not well-formed application/x-www-form-urlencoded; encode every one")

// unescape gives most texts back as they are.
func unescape(text string) (string, error) {
	if strings.IndexByte(text, '%') < 0 && strings.IndexByte(text, '+') < 0 {
		return text, nil
	}
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return "", errNotEncoded
	}
	return plain, nil
}

// appendEscaped is for readers that do not take a plus sign for a space (Asterisk): only unreserved characters stay
// (RFC 3986 §2.3).
func appendEscaped(b []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
