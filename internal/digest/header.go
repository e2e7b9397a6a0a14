package digest

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"
)

// Algorithm is a digest algorithm by its name in the header (RFC 7616 section 3.3).
type Algorithm string

// The algorithms that a tenant can use for challenges.
const (
	MD5    Algorithm = "MD5"
	SHA256 Algorithm = "SHA-256"
)

// appendSum appends the hash of a text in hex.
func (a Algorithm) appendSum(b, text []byte) []byte {
	if a == SHA256 {
		d := sha256.Sum256(text)
		return hex.AppendEncode(b, d[:])
	}
	d := md5.Sum(text)
	return hex.AppendEncode(b, d[:])
}

// hexLen returns the number of bytes that appendSum appends.
func (a Algorithm) hexLen() int {
	if a == SHA256 {
		return hex.EncodedLen(sha256.Size)
	}
	return hex.EncodedLen(md5.Size)
}

// appendHA1 appends the credential's hash for the algorithm in hex. It appends nothing and returns
// false if there is none.
func (a Algorithm) appendHA1(b []byte, c Credential) ([]byte, bool) {
	if a == MD5 {
		return c.HA1.AppendHex(b), true
	}
	if c.SHA256 == nil {
		return b, false
	}
	return c.SHA256.AppendHex(b), true
}

// Challenge is what the server sends.
type Challenge struct {
	Realm     string
	Algorithm Algorithm
	Nonce     string
	// Stale means that only the nonce of an answer was wrong: the client may answer again without
	// asking for the password.
	Stale bool
}

// Header returns the value of the WWW-Authenticate header: the scheme and the parameters of the challenge.
func (c Challenge) Header(scheme string) string {
	var b strings.Builder
	b.Grow(len(scheme) + len(c.Realm) + len(c.Nonce) + 128)
	b.WriteString(scheme)
	b.WriteString(` realm=`)
	quote(&b, c.Realm)
	b.WriteString(`, qop="auth", algorithm=`)
	b.WriteString(string(c.Algorithm))
	b.WriteString(`, nonce=`)
	quote(&b, c.Nonce)
	// Some clients fail without an opaque. Nothing depends on it.
	b.WriteString(`, opaque="dialtone", charset=UTF-8`)
	if c.Stale {
		b.WriteString(`, stale=true`)
	}
	return b.String()
}

func quote(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
}

// Answer is a parsed Authorization header of the Digest scheme.
type Answer struct {
	Username, Realm, Nonce, URI, Response, CNonce, NC string
	Algorithm                                         Algorithm
}

// ErrAnswer is returned for an Authorization header that is not a supported Digest answer.
var ErrAnswer = errors.New("not a Digest answer with qop=auth")

// maxHeader bounds what ParseAnswer reads; the longest real header has about 600 bytes.
const maxHeader = 4096

// ParseAnswer reads an Authorization header (RFC 7616 section 3.4). It requires every parameter of
// qop=auth exactly once, ignores those it does not know, and refuses -sess algorithms, userhash and
// anything malformed with ErrAnswer.
func ParseAnswer(header string) (Answer, error) {
	scheme, rest, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Digest") || len(header) > maxHeader {
		return Answer{}, ErrAnswer
	}
	a := Answer{Algorithm: MD5} // the default (RFC 7616 section 3.4)
	var qop, algorithm, userhash string
	known := [...]struct {
		name string
		dst  *string
	}{
		{"username", &a.Username}, {"realm", &a.Realm}, {"nonce", &a.Nonce}, {"uri", &a.URI},
		{"response", &a.Response}, {"cnonce", &a.CNonce}, {"nc", &a.NC}, {"qop", &qop},
		{"algorithm", &algorithm}, {"userhash", &userhash},
	}
	var seen [len(known)]bool
	for {
		name, value, next, ok := parameter(rest)
		if !ok {
			return Answer{}, ErrAnswer
		}
		for i, k := range known {
			if len(name) != len(k.name) || !strings.EqualFold(name, k.name) {
				continue
			}
			if seen[i] {
				return Answer{}, ErrAnswer
			}
			seen[i], *k.dst = true, value
		}
		if next == "" {
			break
		}
		rest = next
	}
	switch strings.ToUpper(algorithm) {
	case "", "MD5":
	case "SHA-256":
		a.Algorithm = SHA256
	default:
		return Answer{}, ErrAnswer
	}
	complete := a.Username != "" && a.Realm != "" && a.Nonce != "" && a.URI != "" &&
		a.CNonce != ""
	if !complete || qop != "auth" || strings.EqualFold(userhash, "true") ||
		len(a.NC) != 8 || !isHex(a.NC) || len(a.Response) != a.Algorithm.hexLen() || !isHex(a.Response) {
		return Answer{}, ErrAnswer
	}
	return a, nil
}

// parameter parses one `name=value` of an auth-param list (RFC 9110 section 11.2), and returns
// the rest after its comma.
func parameter(s string) (name, value, rest string, ok bool) {
	s = trimLeft(s)
	name, s, ok = strings.Cut(s, "=")
	name = strings.TrimRight(name, " \t")
	if !ok || !isToken(name) {
		return "", "", "", false
	}
	s = trimLeft(s)
	if strings.HasPrefix(s, `"`) {
		value, s, ok = unquote(s)
	} else {
		n := 0
		for n < len(s) && tokenBytes[s[n]] {
			n++
		}
		value, s, ok = s[:n], s[n:], n > 0
	}
	if !ok {
		return "", "", "", false
	}
	s = trimLeft(s)
	if s == "" {
		return name, value, "", true
	}
	if s[0] != ',' || trimLeft(s[1:]) == "" {
		return "", "", "", false
	}
	return name, value, s[1:], true
}

// trimLeft returns s without leading spaces and tabs.
func trimLeft(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

// unquote reads a quoted-string (RFC 9110 section 5.6.4).
func unquote(s string) (value, rest string, ok bool) {
	var unescaped []byte // nil while there was no escape
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' && unescaped == nil:
			return s[1:i], s[i+1:], true
		case c == '"':
			return string(unescaped), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			if unescaped == nil {
				unescaped = append(make([]byte, 0, len(s)), s[1:i]...)
			}
			i++
			unescaped = append(unescaped, s[i])
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", "", false
		case unescaped != nil:
			unescaped = append(unescaped, c)
		}
	}
	return "", "", false
}

func isToken(s string) bool {
	for i := range len(s) {
		if !tokenBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

// tokenBytes are the bytes that a token can contain (RFC 9110 section 5.6.2).
var tokenBytes = func() (is [256]bool) {
	for c := '!'; c <= '~'; c++ {
		is[c] = !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	}
	return is
}()

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// Proves reports whether the answer's response matches the credential for a request with the
// method (RFC 7616 section 3.4.1). It takes the same time for every credential, even the zero
// one, so that an unknown name can be checked against a decoy. The caller must check nonce, realm, URI and
// algorithm.
func (a Answer) Proves(c Credential, method string) bool {
	var ha2, sum [2 * sha256.Size]byte
	var text [512]byte // on the stack
	join := func(b []byte, parts ...string) []byte {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	b := a.Algorithm.appendSum(ha2[:0], join(text[:0], method, ":", a.URI))
	ha1, has := a.Algorithm.appendHA1(text[:0], c)
	answered := append(join(ha1, ":", a.Nonce, ":", a.NC, ":", a.CNonce, ":auth:"), b...)
	want := a.Algorithm.appendSum(sum[:0], answered)
	same := subtle.ConstantTimeCompare(want, []byte(strings.ToLower(a.Response))) == 1
	return has && same
}
