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
		{"the domain becomes lower case", "alex@X.Test", "alex@x.test", ""},
		{"the local part keeps its case", "Alex.B@x.test", "Alex.B@x.test", ""},
		{"a tag", "alex+tag@x.test", "alex+tag@x.test", ""},
		{"every other character of an atom", "#$&'*+=?^_{}~-@x.test", "#$&'*+=?^_{}~-@x.test", ""},
		{"not a pipe", "|id@x.test", "", unsupported},
		{"not a pipe inside", "a|b@x.test", "", unsupported},
		{"not a command", "a`b@x.test", "", unsupported},
		{"not a path", "/etc/passwd@x.test", "", unsupported},
		{"not a slash inside", "a/b@x.test", "", unsupported},
		{"not a percent route", "a%b.test@x.test", "", unsupported},
		{"not a bang path", "host!a@x.test", "", unsupported},
		{"a digit first", "1@x.test", "1@x.test", ""},
		{"a hyphen inside and at the end", "a-b-@x-y.test", "a-b-@x-y.test", ""},
		{"a label of digits", "a@163.test", "a@163.test", ""},
		{"many labels", "a@b.c.d.e.f.test", "a@b.c.d.e.f.test", ""},
		{"hyphens in a row, not in third place", "a@abc--d.test", "a@abc--d.test", ""},

		{"an internationalised domain", "a@bücher.test", "a@xn--bcher-kva.test", ""},
		{"an internationalised domain in capitals", "a@BÜCHER.test", "a@xn--bcher-kva.test", ""},
		{"a decomposed domain", "a@bu\u0308cher.test", "a@xn--bcher-kva.test", ""},
		{"an A-label", "a@xn--bcher-kva.test", "a@xn--bcher-kva.test", ""},
		{"an A-label in capitals", "a@XN--BCHER-KVA.test", "a@xn--bcher-kva.test", ""},
		{"a sharp s is a letter of its own", "a@straße.test", "a@xn--strae-oqa.test", ""},
		{"a domain of another script", "a@例え.テスト", "a@xn--r8jz45g.xn--zckzah", ""},
		{"a right-to-left domain", "a@דוגמה.test", "a@xn--6dbbec0c.test", ""},
		{"a joiner where it is allowed", "a@नाम\u0915\u094d\u200d\u0937.test",
			"a@xn--11b1bs1b6a6f215r.test", ""},
		{"a look-alike domain becomes an A-label", "a@\u0430pple.com",
			"a@xn--pple-43d.com", ""},
		{"a middle dot between letters", "a@col·lecció.test", "a@xn--collecci-ioa91d.test", ""},

		{"sixty-four bytes before the @", local64 + "@x.test", local64 + "@x.test", ""},
		{"not sixty-five bytes before the @", local64 + "l@x.test", "", "at most 64"},
		{"two hundred and fifty-four bytes", local64 + "@" + domain189, local64 + "@" + domain189,
			""},
		{"not two hundred and fifty-five bytes",
			local64 + "@" + strings.Replace(domain189, ".test", "d.test", 1), "", "at most 254"},
		{"not two hundred and fifty-five bytes after IDNA",
			local64 + "@" + strings.Repeat("\u00e9.", 16) + domain189[64:], "",
			"at most 254"},
		{"a label of sixty-three bytes", "a@" + label63 + ".test", "a@" + label63 + ".test", ""},
		{"not a label of sixty-four bytes", "a@" + label63 + "d.test", "", domain},
		{"not a label that is too long after IDNA",
			"a@" + strings.Repeat("\u00e9\u5b57", 30) + ".test", "", domain},
		{"not megabytes", "a@" + strings.Repeat("\u00e9", 1<<20) + ".test", "", "at most 254"},

		{"not an empty address", "", "", "is empty"},
		{"not without @", "alex", "", "has no @"},
		{"not without anything before it", "@x.test", "", "nothing before"},
		{"not without anything after it", "alex@", "", "nothing after"},
		{"not two @", "a@b@c.test", "", oneAddress},

		{"not two addresses", "a@b.test,c@d.test", "", oneAddress},
		{"not two addresses without full domains", "a@b,c@d", "", oneAddress},
		{"not two with a semicolon", "a@b.test;c@d.test", "", oneAddress},
		{"not a group", "g:a@b;", "", oneAddress},
		{"not angle brackets", "<a@b>", "", oneAddress},
		{"not a displayed name", "A<a@b.c>", "", oneAddress},
		{"not a displayed name and a space", "A <a@b.c>", "", "no spaces"},
		{"not a comment", "a(c)@b.c", "", unsupported},
		{"not a comment at the end", "a@b.c(c)", "", domain},
		{"not quotes", `"x"@b.c`, "", unsupported},
		{"not quotes with a space", `"a b"@x.com`, "", "no spaces"},
		{"not a backslash", `a\b@x.test`, "", unsupported},
		{"not a route", "@x:a@b", "", oneAddress},
		{"not a colon", "mailto:a@b.c", "", unsupported},
		{"not an address literal", "a@[1.2.3.4]", "", domain},
		{"not an address literal of IPv6", "a@[IPv6:::1]", "", domain},
		{"not an IP address", "a@127.0.0.1", "", "a number"},
		{"not a number as last label", "a@x.123", "", "a number"},

		{"not an option", "-oQ/tmp@x.test", "", "begin with a hyphen"},
		{"not another option", "-oX@b.c", "", "begin with a hyphen"},
		{"not a dot first", ".a@x.test", "", "a dot"},
		{"not a dot last", "a.@x.test", "", "a dot"},
		{"not two dots", "a..b@x.test", "", "a dot"},
		{"not a dot alone", ".@x.test", "", "a dot"},
		{"not a letter of another script before the @", "ü@x.test", "", unsupported},
		{"not a Kelvin sign before the @", "\u212aarl@x.test", "", unsupported},
		{"not invalid UTF-8 before the @", "\xff@x.test", "", unsupported},

		{"not one label", "a@localhost", "", "full domain"},
		{"not a dot at the end", "a@x.test.", "", domain},
		{"not a dot at the start", "a@.x.test", "", domain},
		{"not two dots in the domain", "a@x..test", "", domain},
		{"not an underscore in the domain", "a@x_y.test", "", domain},
		{"not a hyphen first in a label", "a@-x.test", "", domain},
		{"not a hyphen last in a label", "a@x-.test", "", domain},
		{"not hyphens in third and fourth place", "a@ab--c.test", "", domain},
		{"not an empty A-label", "a@xn--.test", "", domain},
		{"not an A-label of ASCII", "a@xn--abc-.test", "", domain},
		{"not an invalid A-label", "a@xn--99999999.test", "", domain},
		{"not a Kelvin sign in the domain", "a@\u212aiwi.test", "", domain},
		{"not a dotted capital I in the domain", "a@\u0130van.test", "", domain},
		{"not full-width letters in the domain", "a@\uff58.test", "", domain},
		{"not a full-width dot", "a@x\u3002test", "", domain},
		{"not an invisible character in the domain", "a@x\u00ady.test", "", domain},
		{"not a zero-width space in the domain", "a@x\u200by.test", "", domain},
		{"not a joiner where it is not allowed", "a@x\u200dy.test", "", domain},
		{"not a direction override", "a@\u202ex.test", "", domain},
		{"not both directions in a label", "a@aד.test", "", domain},
		{"not a symbol", "a@i❤.test", "", domain},
		{"not a symbol as an A-label", "a@xn--i-7iq.test", "", domain},
		{"not invalid UTF-8 in the domain", "a@\xff\xfe.test", "", domain},

		{"not a space", "a b@x.test", "", "no spaces"},
		{"not a space at the end", "a@x.test ", "", "no spaces"},
		{"not a tab", "a@x.test\t", "", control},
		{"not a zero byte", "a@x.test\x00", "", control},
		{"not a delete character", "a\x7f@x.test", "", control},
		{"not another header", "a@b.c\r\nBcc: d@e.f", "", control},
		{"not another header after a line feed alone", "a@b.c\nX-Receiver:d@e.f", "", control},
		{"not a folded header", "a@b.c\r\n d@e.f", "", control},
		{"not a line separator", "a@b.c\u2028Bcc:d", "", domain},
		{"not a next-line character", "a@b\u0085.c", "", domain},
		{"not an encoded word", "=?utf-8?q?a=0D=0ABcc:?=@x.test", "", unsupported},
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

// checkEmail fails unless email, a result of CleanEmail, is clean and the standard library
// parses it as that one address.
func checkEmail(t *testing.T, email string) {
	t.Helper()
	if again, err := CleanEmail(email); err != nil || again != email {
		t.Errorf("%q, cleaned again: %q, %v", email, again, err)
	}
	if len(email) > 254 || strings.Count(email, "@") != 1 || email[0] == '-' {
		t.Errorf("accepted %q", email)
	}
	for _, c := range []byte(email) {
		if c <= ' ' || c >= 0x7F {
			t.Errorf("%q has the byte %#x", email, c)
		}
	}
	if a, err := mail.ParseAddress(email); err != nil || a.Name != "" || a.Address != email ||
		a.String() != "<"+email+">" {
		t.Errorf("mail.ParseAddress(%q): got %v, %v", email, a, err)
	}
}

func TestRecipientKey(t *testing.T) {
	tests := []struct{ name, email, want string }{
		{"an address is its own key", "v@x.test", "v@x.test"},
		{"case is ignored", "V@X.TEST", "v@x.test"},
		{"a tag is ignored", "v+1@x.test", "v@x.test"},
		{"two tags are ignored", "v+1+2@x.test", "v@x.test"},
		{"an empty tag is ignored", "v+@x.test", "v@x.test"},
		{"dots are not ignored", "v.w@x.test", "v.w@x.test"},
		{"dots are ignored where Gmail ignores them", "V.w.+1@GMail.com", "vw@gmail.com"},
		{"both domains of Gmail are one", "v.w@googlemail.com", "vw@gmail.com"},
		{"Proton ignores hyphens and underscores too", "v.w-x_y@pm.me", "vwxy@proton.me"},
		{"a domain that ends in that of Gmail is another", "v.w@notgmail.com", "v.w@notgmail.com"},
		{"a local part that is only a tag is kept", "+A@x.test", "+a@x.test"},
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
		{"one letter is masked like many", "j@x.test", "j***@x.test"},
		{"a letter of several bytes stays whole", "éa@x.test", "é***@x.test"},
		{"an empty local part is masked", "@x.test", "***@x.test"},
		{"an empty address is masked", "", "***"},
		{"text that is not an address is masked", "secret", "***"},
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
		"", "alex@x.test", "Alex+1@X.Test", "#$&'*+=?^_{}~-@x.test", "a@bücher.test",
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
		{"an internationalised domain", "maria@bücher.test"},
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
