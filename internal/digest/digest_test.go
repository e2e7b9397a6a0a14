package digest_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/test/printing"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// This is the example of RFC 7616 section 3.9.1, with spaces instead of line breaks.
const (
	rfcMD5 = `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", ` +
		`algorithm=MD5, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, ` +
		`cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, ` +
		`response="8ca523f5e9506fed4657c9700eebdbec", ` +
		`opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	rfcSHA256 = `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", ` +
		`algorithm=SHA-256, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, ` +
		`cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, ` +
		`response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1", ` +
		`opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
)

func credential(user, realm, password string) digest.Credential {
	b, sum := digest.ComputeB(user, realm, password), digest.ComputeSHA256(user, realm, password)
	return digest.Credential{HA1: digest.Compute(user, realm, password), HA1B: &b, SHA256: &sum}
}

func TestProves(t *testing.T) {
	right := credential("Mufasa", "http-auth@example.org", "Circle of Life")
	for name, header := range map[string]string{"MD5": rfcMD5, "SHA-256": rfcSHA256} {
		a, err := digest.ParseAnswer(header)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if string(a.Algorithm) != name || a.Username != "Mufasa" || a.URI != "/dir/index.html" {
			t.Errorf("%s is read as %+v", name, a)
		}
		upper := a
		upper.Response = strings.ToUpper(a.Response)
		if !a.Proves(right, "GET") || !upper.Proves(right, "GET") {
			t.Errorf("%s does not prove the password", name)
		}
		other := a
		other.URI = "/dir/"
		if a.Proves(right, "POST") ||
			a.Proves(credential("Mufasa", "http-auth@example.org", "circle of life"), "GET") ||
			a.Proves(digest.Credential{}, "GET") || other.Proves(right, "GET") {
			t.Errorf("%s proves what it should not", name)
		}
		if n := testing.AllocsPerRun(10, func() { a.Proves(right, "GET") }); n > 0 {
			t.Errorf("%s: checking an answer takes %v allocations", name, n)
		}
	}
	a, _ := digest.ParseAnswer(rfcSHA256)
	right.SHA256 = nil
	if a.Proves(right, "GET") {
		t.Error("SHA-256 is accepted without that hash")
	}
}

func TestParseAnswer(t *testing.T) {
	want, err := digest.ParseAnswer(rfcMD5)
	if err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]string{
		"curl": `Digest username="Mufasa",realm="http-auth@example.org",nonce="` + want.Nonce +
			`",uri="/dir/index.html",cnonce="` + want.CNonce + `",nc=00000001,algorithm=MD5,response="` +
			want.Response + `",qop="auth"`,
		"no algorithm, as RFC 2617": strings.Replace(rfcMD5, "algorithm=MD5, ", "", 1),
		"an algorithm in quotes":    strings.Replace(rfcMD5, "algorithm=MD5", `algorithm="md5"`, 1),
		"the scheme in capitals":    strings.Replace(rfcMD5, "Digest", "DIGEST", 1),
		"names in capitals":         strings.Replace(rfcMD5, "username", "USERNAME", 1),
		"much white space": strings.ReplaceAll(
			strings.ReplaceAll(rfcMD5, ", ", " \t,\t  "), "=MD5", " = MD5"),
		"an unknown parameter": rfcMD5 + `, foo="b,a=r"`,
		"an escaped letter":    strings.Replace(rfcMD5, `"Mufasa"`, `"\Mufas\a"`, 1),
		"userhash=false":       rfcMD5 + `, userhash=false`,
	} {
		if got, err := digest.ParseAnswer(header); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	a, err := digest.ParseAnswer(strings.Replace(rfcMD5, "Mufasa", `a\"b\\c, d=\"e`, 1))
	if err != nil || a.Username != `a"b\c, d="e` {
		t.Errorf("escapes are read as %q, %v", a.Username, err)
	}
}

func TestParseAnswerErrors(t *testing.T) {
	bad := map[string]string{
		"nothing":                           "",
		"only the scheme":                   "Digest",
		"the scheme and a space":            "Digest ",
		"another scheme":                    "Basic YTpi",
		"a prefix of the scheme":            "Digestive" + rfcMD5[6:],
		"a comma at the end":                rfcMD5 + ",",
		"a comma at the start":              "Digest ," + rfcMD5[6:],
		"two commas":                        strings.Replace(rfcMD5, ", ", ",, ", 1),
		"no commas":                         strings.ReplaceAll(rfcMD5, ",", ""),
		"an open quote":                     rfcMD5[:len(rfcMD5)-1],
		"text after a quote":                strings.Replace(rfcMD5, `"Mufasa"`, `"Mufasa"x`, 1),
		"a name twice":                      rfcMD5 + `, username="Mufasa"`,
		"a name twice in another case":      rfcMD5 + `, USERNAME="x"`,
		"no value":                          strings.Replace(rfcMD5, "qop=auth", "qop=", 1),
		"no name":                           strings.Replace(rfcMD5, "qop=auth", "=auth", 1),
		"no equals":                         strings.Replace(rfcMD5, "qop=auth", "qop", 1),
		"auth-int":                          strings.Replace(rfcMD5, "qop=auth", "qop=auth-int", 1),
		"no qop":                            strings.Replace(rfcMD5, "qop=auth, ", "", 1),
		"MD5-sess":                          strings.Replace(rfcMD5, "=MD5", "=MD5-sess", 1),
		"SHA-256-sess":                      strings.Replace(rfcSHA256, "=SHA-256", "=SHA-256-sess", 1),
		"SHA-512-256":                       strings.Replace(rfcSHA256, "=SHA-256", "=SHA-512-256", 1),
		"a response of the other algorithm": strings.Replace(rfcMD5, "=MD5", "=SHA-256", 1),
		"userhash":                          rfcMD5 + ", userhash=true",
		"userhash in capitals":              rfcMD5 + `, userhash="TRUE"`,
		"nc of seven digits":                strings.Replace(rfcMD5, "nc=00000001", "nc=0000001", 1),
		"nc that is not hex":                strings.Replace(rfcMD5, "nc=00000001", "nc=0000000g", 1),
		"a response that is not hex":        strings.Replace(rfcMD5, "8ca523", "8ca52g", 1),
		"a short response":                  strings.Replace(rfcMD5, "8ca523", "8ca52", 1),
		"a control character":               strings.Replace(rfcMD5, "Mufasa", "Muf\x01asa", 1),
		"a line break":                      strings.Replace(rfcMD5, "Mufasa", "Muf\nasa", 1),
		"DEL":                               strings.Replace(rfcMD5, "Mufasa", "Muf\x7fasa", 1),
		"more than 4096 bytes":              rfcMD5 + `, x="` + strings.Repeat("x", 4096) + `"`,
		"username*":                         strings.Replace(rfcMD5, `username="Mufasa"`, `username*=UTF-8''Mufasa`, 1),
	}
	for _, name := range []string{"username", "realm", "uri", "nonce", "cnonce", "response"} {
		at := strings.Index(rfcMD5, " "+name+"=")
		end := at + strings.Index(rfcMD5[at:], `", `) + 2
		bad["no "+name] = rfcMD5[:at] + rfcMD5[end:]
		bad["an empty "+name] = rfcMD5[:at] + " " + name + `="",` + rfcMD5[end:]
	}
	for name, header := range bad {
		if a, err := digest.ParseAnswer(header); err == nil {
			t.Errorf("%s is read as %+v", name, a)
		}
	}
}

func TestParseAnswerLength(t *testing.T) {
	padding := strings.Repeat("x", 4096-len(rfcMD5)-len(`, x=""`))
	if _, err := digest.ParseAnswer(rfcMD5 + `, x="` + padding + `"`); err != nil {
		t.Errorf("4096 bytes: %v", err)
	}
	if _, err := digest.ParseAnswer(rfcMD5 + `, x="` + padding + `x"`); err == nil {
		t.Error("4097 bytes are read")
	}
}

func TestParseAnswerHex(t *testing.T) {
	for _, digits := range []string{"01234567", "89abcdef", "89ABCDEF", "0a9fA0F9"} {
		header := strings.Replace(rfcMD5, "nc=00000001", "nc="+digits, 1)
		if a, err := digest.ParseAnswer(header); err != nil || a.NC != digits {
			t.Errorf("nc=%s: got %q, %v", digits, a.NC, err)
		}
	}
	for _, c := range "/:@G`g" { // the neighbours of the digits
		header := strings.Replace(rfcMD5, `response="8`, `response="`+string(c), 1)
		if _, err := digest.ParseAnswer(header); err == nil {
			t.Errorf("a response with %q is read", c)
		}
	}
}

// Exactly the characters of a token are accepted (RFC 9110 section 5.6.2).
func TestParseAnswerToken(t *testing.T) {
	const letters = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for c := range rune(256) {
		want := strings.ContainsRune(letters, c)
		name := rfcMD5 + ", x" + string([]byte{byte(c)}) + "=y"
		if _, err := digest.ParseAnswer(name); c != ' ' && c != '\t' && c != '=' && (err == nil) != want {
			t.Errorf("a name with %q: %v", c, err)
		}
		value := rfcMD5 + ", x=y" + string([]byte{byte(c)}) + "z"
		if _, err := digest.ParseAnswer(value); c != ',' && (err == nil) != want {
			t.Errorf("a value with %q: %v", c, err)
		}
	}
}

func TestParseAnswerEmptyValue(t *testing.T) {
	for _, end := range []string{", x=", ", x= ", ", x=, y=z"} {
		if _, err := digest.ParseAnswer(rfcMD5 + end); err == nil {
			t.Errorf("%q is read", end)
		}
	}
}

func TestParseAnswerQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"a b": "a b", "a\tb": "a\tb", "a~b": "a~b", "a\u0080": "a\u0080", `a\\ b`: `a\ b`,
		`\"\ \~`: `" ~`,
	} {
		a, err := digest.ParseAnswer(strings.Replace(rfcMD5, "Mufasa", text, 1))
		if err != nil || a.Username != want {
			t.Errorf("%q: got %q, %v, want %q", text, a.Username, err, want)
		}
	}
	for _, text := range []string{"a\x1fb", "a\x00b", "a\x08b", "a\nb", "a\x7fb", `a\`, `\"a` + "\x1f"} {
		if a, err := digest.ParseAnswer(strings.Replace(rfcMD5, "Mufasa", text, 1)); err == nil {
			t.Errorf("%q is read as %q", text, a.Username)
		}
	}
}

func TestChallenge(t *testing.T) {
	c := digest.Challenge{Realm: `a "b" \c`, Algorithm: digest.MD5, Nonce: "n"}
	const want = `Digest realm="a \"b\" \\c", qop="auth", algorithm=MD5, nonce="n", opaque="dialtone", charset=UTF-8`
	if got := c.Header("Digest"); got != want {
		t.Errorf("got %s", got)
	}
	c.Stale = true
	if got := c.Header("Digest"); got != want+", stale=true" {
		t.Errorf("got %s", got)
	}
	c.Algorithm = digest.SHA256
	for _, long := range []int{40, 253} {
		c.Realm, c.Nonce = strings.Repeat("r", long), strings.Repeat("n", 293-long)
		if n := testing.AllocsPerRun(10, func() { c.Header("Digest") }); n != 1 {
			t.Errorf("a challenge with a realm of %d bytes takes %v allocations", long, n)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, s := range []string{rfcMD5, rfcSHA256, "", "Digest x", `Digest a="\`,
		`Digest a="b",c=d`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		a, err := digest.ParseAnswer(header)
		if err != nil {
			return
		}
		// An answer that was read can be written, and then reads as the same answer.
		quote := func(s string) string {
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
		}
		again := fmt.Sprintf("Digest username=%s, realm=%s, nonce=%s, uri=%s, cnonce=%s, "+
			"response=%s, nc=%s, qop=auth, algorithm=%s",
			quote(a.Username), quote(a.Realm), quote(a.Nonce), quote(a.URI), quote(a.CNonce),
			quote(a.Response), a.NC, a.Algorithm)
		if len(again) > 4096 {
			return
		}
		if b, err := digest.ParseAnswer(again); err != nil || a != b {
			t.Fatalf("%q was read as %+v, and after writing as %+v, %v", header, a, b, err)
		}
		if a.Proves(digest.Credential{}, "GET") {
			t.Fatal("it proves the hash of zeros")
		}
	})
}

func TestMarshalCredential(t *testing.T) {
	full := credential("ann", "phone.test", "x")
	for _, c := range []digest.Credential{full, {HA1: full.HA1}, {HA1: full.HA1, HA1B: full.HA1B},
		{HA1: full.HA1, SHA256: full.SHA256}, {}} {
		b := c.Marshal()
		got, err := digest.UnmarshalCredential(b)
		if err != nil || !bytes.Equal(got.Marshal(), b) || got.HA1 != c.HA1 ||
			(got.HA1B == nil) != (c.HA1B == nil) || (got.SHA256 == nil) != (c.SHA256 == nil) {
			t.Errorf("%x: %v", b, err)
		}
		if c.HA1B != nil && *got.HA1B != *c.HA1B || c.SHA256 != nil && *got.SHA256 != *c.SHA256 {
			t.Error("a hash has changed")
		}
		for n := range b {
			if _, err := digest.UnmarshalCredential(b[:n]); err == nil {
				t.Errorf("the first %d of %d bytes are read", n, len(b))
			}
		}
		if _, err := digest.UnmarshalCredential(append(slices.Clone(b), 0)); err == nil {
			t.Error("an additional byte is accepted")
		}
		b[0] |= 4
		if _, err := digest.UnmarshalCredential(b); err == nil {
			t.Error("an unknown flag is accepted")
		}
	}
}

func TestHex(t *testing.T) {
	h := digest.Compute("Mufasa", "http-auth@example.org", "Circle of Life")
	for _, text := range []string{h.Hex(), strings.ToUpper(h.Hex())} {
		if got, err := digest.ParseHA1(text); err != nil || got != h {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, bad := range []string{"", h.Hex()[1:], h.Hex() + "0", "g" + h.Hex()[1:],
		" " + h.Hex()[1:], h.Hex() + "\n", strings.Repeat("０", 32)} {
		if _, err := digest.ParseHA1(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
		if _, err := digest.ParseHA1SHA256(bad + bad); err == nil {
			t.Errorf("%q is read", bad+bad)
		}
	}
}

func TestNothingPrints(t *testing.T) {
	h := digest.HA1(bytes.Repeat([]byte{0xA7}, 16))
	sum := digest.HA1SHA256(bytes.Repeat([]byte{0xA7}, 32))
	c := digest.Credential{HA1: h, HA1B: &h, SHA256: &sum}
	for name, v := range map[string]any{"HA1": h, "SHA-256": sum, "a pointer": &h,
		"a credential": c, "a pointer to one": &c, "a list": []digest.HA1{h}} {
		text := printing.All(t, v)
		for _, leak := range []string{"a7a7", "0xa7", "167", "247", "10100111", "\xa7", "§",
			"p6en"} {
			if strings.Contains(text, leak) {
				t.Errorf("%s prints %q:\n%s", name, leak, text)
			}
		}
	}
}

func TestNonces(t *testing.T) {
	now := noon
	n := digest.NewNonces(func() time.Time { return now })
	spend := func(name, nonce, realm string, want bool) {
		t.Helper()
		if got := n.Spend(nonce, realm); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	nonce := n.Issue("phone.test")
	spend("for another realm", nonce, "other.test", false)
	spend("the first time", nonce, "phone.test", true)
	spend("the second time", nonce, "phone.test", false)
	nonce = n.Issue("phone.test")
	for name, bad := range map[string]string{
		"nothing": "", "a shorter text": nonce[1:], "padding": nonce + "=",
		"a line break": nonce[:5] + "\n" + nonce[6:], "a changed number": "B" + nonce[1:],
		"zeros": strings.Repeat("A", len(nonce)),
	} {
		spend(name, bad, "phone.test", false)
	}
	spend("by another process",
		digest.NewNonces(func() time.Time { return now }).Issue("phone.test"), "phone.test", false)
	now = noon.Add(digest.NonceLife - time.Millisecond)
	spend("at the last moment", nonce, "phone.test", true)
	now = noon
	nonce = n.Issue("phone.test")
	now = noon.Add(digest.NonceLife)
	spend("too late", nonce, "phone.test", false)
	now = noon.Add(-time.Second)
	spend("before it was given out", nonce, "phone.test", false)
}

func TestNonceConcurrent(t *testing.T) {
	n := digest.NewNonces(func() time.Time { return noon })
	nonces := make([]string, 20000)
	for i := range nonces {
		nonces[i] = n.Issue("phone.test")
	}
	wins := make([]atomic.Int32, len(nonces))
	var arrived atomic.Int64
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for i, nonce := range nonces {
				// Both try each nonce as simultaneously as possible.
				for arrived.Add(1); arrived.Load() < int64(2*(i+1)); {
					runtime.Gosched()
				}
				if n.Spend(nonce, "phone.test") {
					wins[i].Add(1)
				}
			}
		})
	}
	all.Wait()
	for i := range wins {
		if got := wins[i].Load(); got != 1 {
			t.Fatalf("%d of 2 spent one nonce", got)
		}
	}
}
