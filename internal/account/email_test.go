package account

import (
	"net/mail"
	"strings"
	"testing"

	"dialtone/internal/audit"
)

func TestCleanEmail(t *testing.T) {
	local64 := strings.Repeat("l", 64)
	label63 := strings.Repeat("d", 63)
	// 64 bytes, the @, and 189 of domain.
	domain189 := label63 + "." + label63 + "." + strings.Repeat("d", 56) + ".test"
	const (
		oneAddress  = "one address and nothing else"
		unsupported = "not supported"
		domain      = "check the part after the @"
		control     = "control character"
	)
	tests := []struct {
		name, raw, want string
		refused         string // part of the sentence, if it is refused
	}{
		{"an address", "alex@x.test", "alex@x.test", ""},
		{"the domain is written small", "alex@X.Test", "alex@x.test", ""},
		{"what comes before the @ keeps its case", "Alex.B@x.test", "Alex.B@x.test", ""},
		{"a tag", "alex+tag@x.test", "alex+tag@x.test", ""},
		{"every sign of an atom", "!#$%&'*+/=?^_`{|}~-@x.test", "!#$%&'*+/=?^_`{|}~-@x.test", ""},
		{"a digit first", "1@x.test", "1@x.test", ""},
		{"a hyphen inside and at the end", "a-b-@x-y.test", "a-b-@x-y.test", ""},
		{"a label of digits", "a@163.test", "a@163.test", ""},
		{"many labels", "a@b.c.d.e.f.test", "a@b.c.d.e.f.test", ""},
		{"hyphens in a row, not in third place", "a@abc--d.test", "a@abc--d.test", ""},

		{"a domain of other letters", "a@bücher.test", "a@xn--bcher-kva.test", ""},
		{"in capitals", "a@BÜCHER.test", "a@xn--bcher-kva.test", ""},
		{"taken apart", "a@bu\u0308cher.test", "a@xn--bcher-kva.test", ""},
		{"as an A-label", "a@xn--bcher-kva.test", "a@xn--bcher-kva.test", ""},
		{"as an A-label in capitals", "a@XN--BCHER-KVA.test", "a@xn--bcher-kva.test", ""},
		{"a sharp s is a letter of its own", "a@straße.test", "a@xn--strae-oqa.test", ""},
		{"a domain of another script", "a@例え.テスト", "a@xn--r8jz45g.xn--zckzah", ""},
		{"a domain from right to left", "a@דוגמה.test", "a@xn--6dbbec0c.test", ""},
		{"a joiner in its place", "a@नाम\u0915\u094d\u200d\u0937.test",
			"a@xn--11b1bs1b6a6f215r.test", ""},
		{"a name that looks like another shows what it is", "a@\u0430pple.com",
			"a@xn--pple-43d.com", ""},
		{"a middle dot between letters", "a@col·lecció.test", "a@xn--collecci-ioa91d.test", ""},

		{"sixty-four bytes before the @", local64 + "@x.test", local64 + "@x.test", ""},
		{"not sixty-five", local64 + "l@x.test", "", "at most 64"},
		{"two hundred and fifty-four bytes", local64 + "@" + domain189, local64 + "@" + domain189,
			""},
		{"not two hundred and fifty-five",
			local64 + "@" + strings.Replace(domain189, ".test", "d.test", 1), "", "at most 254"},
		{"not more after IDNA", local64 + "@" + strings.Repeat("\u00e9.", 16) + domain189[64:], "",
			"at most 254"},
		{"a label of sixty-three", "a@" + label63 + ".test", "a@" + label63 + ".test", ""},
		{"not of sixty-four", "a@" + label63 + "d.test", "", domain},
		{"not a label that is too long after IDNA",
			"a@" + strings.Repeat("\u00e9\u5b57", 30) + ".test", "", domain},
		{"not megabytes", "a@" + strings.Repeat("\u00e9", 1<<20) + ".test", "", "at most 254"},

		{"not nothing", "", "", "is empty"},
		{"not without @", "alex", "", "has no @"},
		{"not without anything before it", "@x.test", "", "nothing before"},
		{"not without anything after it", "alex@", "", "nothing after"},
		{"not two @", "a@b@c.test", "", oneAddress},

		{"not two addresses", "a@b.test,c@d.test", "", oneAddress},
		{"not two with half of it", "a@b,c@d", "", oneAddress},
		{"not two with a semicolon", "a@b.test;c@d.test", "", oneAddress},
		{"not a group", "g:a@b;", "", oneAddress},
		{"not angle brackets", "<a@b>", "", oneAddress},
		{"not a displayed name", "A<a@b.c>", "", oneAddress},
		{"not a displayed name and a space", "A <a@b.c>", "", "no spaces"},
		{"not a comment", "a(c)@b.c", "", unsupported},
		{"not a comment behind", "a@b.c(c)", "", domain},
		{"not quotes", `"x"@b.c`, "", unsupported},
		{"not quotes with a space", `"a b"@x.com`, "", "no spaces"},
		{"not a backslash", `a\b@x.test`, "", unsupported},
		{"not a route", "@x:a@b", "", oneAddress},
		{"not a colon", "mailto:a@b.c", "", unsupported},
		{"not an address literal", "a@[1.2.3.4]", "", domain},
		{"not an address literal of IPv6", "a@[IPv6:::1]", "", domain},
		{"not an address", "a@127.0.0.1", "", "a number"},
		{"not a number as last label", "a@x.123", "", "a number"},

		{"not an option", "-oQ/tmp@x.test", "", "begin with a hyphen"},
		{"not another option", "-oX@b.c", "", "begin with a hyphen"},
		{"not a dot first", ".a@x.test", "", "a dot"},
		{"not a dot last", "a.@x.test", "", "a dot"},
		{"not two dots", "a..b@x.test", "", "a dot"},
		{"not a dot alone", ".@x.test", "", "a dot"},
		{"not a letter of another script before the @", "ü@x.test", "", unsupported},
		{"not a Kelvin sign before the @", "\u212aarl@x.test", "", unsupported},
		{"not bytes that are no text before the @", "\xff@x.test", "", unsupported},

		{"not one label", "a@localhost", "", "full domain"},
		{"not a dot at the end", "a@x.test.", "", domain},
		{"not a dot at the start", "a@.x.test", "", domain},
		{"not two dots in the domain", "a@x..test", "", domain},
		{"not an underscore in the domain", "a@x_y.test", "", domain},
		{"not a hyphen first in a label", "a@-x.test", "", domain},
		{"not a hyphen last in a label", "a@x-.test", "", domain},
		{"not hyphens in third and fourth place", "a@ab--c.test", "", domain},
		{"not an A-label of nothing", "a@xn--.test", "", domain},
		{"not an A-label of ASCII", "a@xn--abc-.test", "", domain},
		{"not an A-label that is none", "a@xn--99999999.test", "", domain},
		{"not a Kelvin sign in the domain", "a@\u212aiwi.test", "", domain},
		{"not a dotted capital I in the domain", "a@\u0130van.test", "", domain},
		{"not full-width letters in the domain", "a@\uff58.test", "", domain},
		{"not a full-width dot", "a@x\u3002test", "", domain},
		{"not an invisible character in the domain", "a@x\u00ady.test", "", domain},
		{"not a zero-width space in the domain", "a@x\u200by.test", "", domain},
		{"not a joiner out of its place", "a@x\u200dy.test", "", domain},
		{"not a direction override", "a@\u202ex.test", "", domain},
		{"not both directions in a label", "a@aד.test", "", domain},
		{"not a symbol", "a@i❤.test", "", domain},
		{"not a symbol as an A-label", "a@xn--i-7iq.test", "", domain},
		{"not bytes that are no text in the domain", "a@\xff\xfe.test", "", domain},

		{"not a space", "a b@x.test", "", "no spaces"},
		{"not a space at the end", "a@x.test ", "", "no spaces"},
		{"not a tab", "a@x.test\t", "", control},
		{"not a zero byte", "a@x.test\x00", "", control},
		{"not a delete", "a\x7f@x.test", "", control},
		{"not another header", "a@b.c\r\nBcc: d@e.f", "", control},
		{"not another header by line feed alone", "a@b.c\nX-Receiver:d@e.f", "", control},
		{"not a folded header", "a@b.c\r\n d@e.f", "", control},
		{"not a line separator", "a@b.c\u2028Bcc:d", "", domain},
		{"not a next line", "a@b\u0085.c", "", domain},
		{"an encoded word is not decoded", "=?utf-8?q?a=0D=0ABcc:?=@x.test", "", unsupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := CleanEmail(tt.raw)
			if tt.refused != "" {
				checkRefusal(t, err, "email", tt.raw)
				if !strings.Contains(err.Error(), tt.refused) || got != "" {
					t.Errorf("%+q: %q, %q; want something about %q", tt.raw, got, err, tt.refused)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("%+q: %q, %v; want %q", tt.raw, got, err, tt.want)
			}
			checkEmail(t, got)
		})
	}
}

// checkEmail fails unless email, a result of CleanEmail, is clean and the standard library reads it
// as that one address.
func checkEmail(t *testing.T, email string) {
	t.Helper()
	if again, err := CleanEmail(email); err != nil || again != email {
		t.Errorf("%q, cleaned again: %q, %v", email, again, err)
	}
	if len(email) > 254 || strings.Count(email, "@") != 1 || email[0] == '-' {
		t.Errorf("took %q", email)
	}
	for _, c := range []byte(email) {
		if c <= ' ' || c >= 0x7F {
			t.Errorf("%q has the byte %#x", email, c)
		}
	}
	if a, err := mail.ParseAddress(email); err != nil || a.Name != "" || a.Address != email ||
		a.String() != "<"+email+">" {
		t.Errorf("%q is read as %v, %v", email, a, err)
	}
}

func TestRecipientKey(t *testing.T) {
	tests := []struct{ name, email, want string }{
		{"an address stands for itself", "v@x.test", "v@x.test"},
		{"capitals do not count", "V@X.TEST", "v@x.test"},
		{"a tag does not count", "v+1@x.test", "v@x.test"},
		{"nor do two", "v+1+2@x.test", "v@x.test"},
		{"nor one that is empty", "v+@x.test", "v@x.test"},
		{"dots do", "v.w@x.test", "v.w@x.test"},
		{"an address that is all tag stands for itself", "+A@x.test", "+a@x.test"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := RecipientKey(tt.email); got != tt.want {
				t.Errorf("%q: %q, want %q", tt.email, got, tt.want)
			}
		})
	}
}

func TestMaskEmail(t *testing.T) {
	tests := []struct{ name, email, want string }{
		{"the first letter and the domain are shown", "john.doe@x.test", "j***@x.test"},
		{"one letter looks like many", "j@x.test", "j***@x.test"},
		{"a letter is never cut in two", "éa@x.test", "é***@x.test"},
		{"nothing before the @", "@x.test", "***@x.test"},
		{"nothing at all", "", "***"},
		{"what is no address is not shown", "secret", "***"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := audit.MaskEmail(tt.email); got != tt.want {
				t.Errorf("%q: %q, want %q", tt.email, got, tt.want)
			}
		})
	}
}

func FuzzCleanEmail(f *testing.F) {
	for _, s := range []string{
		"", "alex@x.test", "Alex+1@X.Test", "!#$%&'*+/=?^_`{|}~-@x.test", "a@bücher.test",
		"a@BÜCHER.test", "a@bu\u0308cher.test", "a@xn--bcher-kva.test", "a@XN--BCHER-KVA.test",
		"a@xn--abc-.test", "a@xn--i-7iq.test", "a@例え.テスト", "a@straße.test", "a@דוגמה.test",
		"a@\u0430pple.com", "a@\u212a.test", "a@x\u3002test", "a@[1.2.3.4]", "a@1.2.3.4",
		"A <a@b.c>", `"a b"@x.com`, "-oX@b.c", "a@b.c\r\nBcc: d@e.f", "g:a@b;", "@x:a@b",
		"a(c)@b.c", "a@b,c@d", "a@ab--c.test", "a@x-.test", "a@.", "@", ".@.",
		"a@\u0345\u0390.test", "a@\u1e9e.test", "a@\u01c5.test",
		"a@\u0915\u094d\u200d\u0937.test", "=?utf-8?q?a?=@x.test",
		strings.Repeat("l", 64) + "@" + strings.Repeat("d", 63) + ".test", "a@xn--0.xn--1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		email, err := CleanEmail(raw)
		if err != nil {
			checkRefusal(t, err, "email", raw)
			return
		}
		checkEmail(t, email)
		if key := RecipientKey(email); RecipientKey(key) != key || RecipientKey(strings.ToUpper(email)) != key {
			t.Errorf("%q has the key %q, whose key is %q, and in capitals %q",
				email, key, RecipientKey(key), RecipientKey(strings.ToUpper(email)))
		}
		if masked := audit.MaskEmail(email); !strings.HasPrefix(masked, email[:1]+"***@") {
			t.Errorf("%q is masked as %q", email, masked)
		}
	})
}

func BenchmarkCleanEmail(b *testing.B) {
	for _, bm := range []struct{ name, raw string }{
		{"ASCII", "maria.gonzalez@mail.example.org"},
		{"a domain with capitals", "maria.gonzalez@Mail.Example.org"},
		{"an A-label", "maria@xn--bcher-kva.test"},
		{"a domain of other letters", "maria@bücher.test"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := CleanEmail(bm.raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
