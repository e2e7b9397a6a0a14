package account

import (
	"errors"
	"strings"
	"testing"

	"dialtone/internal/fault"
)

// checkRefusal fails unless err is a refusal of the field. Its sentence must help a person and
// must not repeat the input.
func checkRefusal(t *testing.T, err error, field, input string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Invalid || f.Field != field || f.Cause != nil {
		t.Fatalf("got %#v for %q, want a refusal of the field %s", err, input, field)
	}
	lower := strings.ToLower(f.Message)
	for _, word := range []string{"invalid", "illegal", "forbidden", "please", "sorry", "oops",
		"%!", "\n"} {
		if strings.Contains(lower, word) {
			t.Errorf("%q says %q", f.Message, word)
		}
	}
	if strings.HasPrefix(lower, field) {
		t.Errorf("%q begins with the name of its field", f.Message)
	}
	// A short input may occur in the sentence by chance.
	if len(input) > 12 && strings.Contains(f.Message, input) {
		t.Errorf("%q repeats the input %q", f.Message, input)
	}
}

func TestCheckUser(t *testing.T) {
	reserved, err := NewReserved([]string{"initech", "initech-lab", "lab", "5000"})
	if err != nil {
		t.Fatal(err)
	}
	const (
		long    = "1 to 64"
		shape   = "only the letters"
		capital = "lower case"
		empty   = "at least one letter or digit"
		kept    = "is reserved"
		alike   = "looks like"
		number  = "emergency"
	)
	tests := []struct {
		name, user string
		refused    string // part of the sentence, or empty
	}{
		{"a first name", "alex", ""},
		{"one letter", "x", ""},
		{"one digit", "7", ""},
		{"sixty-four characters", strings.Repeat("a", 64), ""},
		{"not sixty-five characters", strings.Repeat("a", 65), long},
		{"not an empty name", "", long},
		{"every kind of character", "a_b.c-9", ""},
		{"separators at both ends", "_x_", ""},
		{"an extension", "1001", ""},
		{"an extension that resembles a word", "50", ""},
		{"an extension that resembles a longer word", "4077", ""},
		{"a host name, which is never used as one", "www.evil.com", ""},
		{"an option, which is never used as an argument", "-rf", ""},

		{"not a capital", "ALEX", capital},
		{"not one capital among lower-case letters", "aleX", capital},
		{"not a capital and a space", "Al ex", shape},
		{"not a space", "al ex", shape},
		{"not a leading space", " alex", shape},
		{"not a line break at the end", "alex\n", shape},
		{"not a zero byte", "alex\x00", shape},
		{"not a delete character", "al\x7fex", shape},
		{"not an at sign", "alex@x.test", shape},
		{"not a colon, which ends the name in HA1", "alex:x", shape},
		{"not a slash", "../alex", shape},
		{"not a percent sign", "al%65x", shape},
		{"not a plus sign", "alex+1", shape},
		{"not a Kelvin sign", "\u212aarl", shape},
		{"not a long s", "al\u017fo", shape},
		{"not a dotted capital I", "\u0130van", shape},
		{"not full-width letters", "\uff41\uff4c\uff45\uff58", shape},
		{"not a Cyrillic a", "\u0430lex", shape},
		{"not Arabic-Indic digits", "\u0661\u0660\u0660\u0661", shape},
		{"not a letter with an accent", "andré", shape},
		{"not a zero-width space", "al\u200bex", shape},
		{"not invalid UTF-8", "al\xff\xfeex", shape},
		{"not an overlong slash", "al\xc0\xafex", shape},

		{"not a dot", ".", empty},
		{"not two dots", "..", empty},
		{"not a hyphen", "-", empty},
		{"not underscores", "___", empty},

		{"not admin", "admin", kept},
		{"not root", "root", kept},
		{"not postmaster", "postmaster", kept},
		{"not a device of Windows", "con", kept},
		{"not a path of this service", "signup.ashx", kept},
		{"not a hidden file", ".htaccess", kept},
		{"not a property of every JavaScript object", "__proto__", kept},
		{"not NaN", "nan", kept},

		{"not admin with a digit", "adm1n", alike},
		{"not admin with an l", "admln", alike},
		{"not admin with an rn", "adrnin", alike},
		{"not admin with an nn", "adnnin", alike},
		{"not admin with a cl", "aclmin", alike},
		{"not admin with everything", "4-c1.rn_1n", alike},
		{"not admin with an underscore", "admin_", alike},
		{"not admin between hyphens", "-admin-", alike},
		{"not admin spelled out", "a.d.m.i.n", alike},
		{"not administrator with digits", "4dm1n157r470r", alike},
		{"not support with a digit", "supp0rt", alike},
		{"not support with a dot", "sup.port", alike},
		{"not support with hyphens", "sup-port-", alike},
		{"not webmaster with a prefix", "ssl.vvebmaster", alike},
		{"not help service in two words", "help_desk", alike},
		{"not legal with a q", "leqal", alike},
		{"not billing with digits", "b1ll1n9", alike},
		{"not board with an eight", "8oard", alike},
		{"not ciso with an l", "clso", alike},
		{"not a moderator", "m0d", alike},
		{"not a moderator with an rn", "rnod", alike},
		{"not a chief officer with a zero", "ce0", alike},
		{"not a chief officer in an abbreviation", "c.e.o", alike},
		{"not a chief officer and a separator", "_ceo", alike},
		{"not the department of two letters and a separator", "hr_", alike},

		{"a name that begins with a reserved word", "adminson", ""},
		{"a word that begins with a reserved one", "modern", ""},
		{"a word that ends in a reserved one", "mushroot", ""},
		{"a name with a reserved word in it", "alex-admin", ""},
		{"karl", "karl", ""},
		{"a Mister Tennant, not tenant", "tennant", ""},
		{"a Miss Carre, not care", "carre", ""},
		{"a Monsieur Legall, not legal", "legall", ""},
		{"Staf, not staff", "staf", ""},
		{"initials that resemble is", "ls", ""},
		{"initials that resemble mis", "mls", ""},
		{"initials of two letters", "h.r", ""},
		{"an initial and a short surname", "c.to", ""},
		{"a name that resembles an exact reserved name", "v0icemail", ""},
		{"a name with a number", "alex1", ""},

		{"not the police", "110", number},
		{"not 911", "911", number},
		{"not 911 with hyphens, which are not dialled", "9-1-1", number},
		{"not 112 with a dot at the end", "112.", number},
		{"a number with 911 in it", "9112", ""},
		{"a leading zero makes another number", "0911", ""},

		{"not the tenant's own word", "initech", kept},
		{"not the tenant's own word with a digit", "1n1tech", alike},
		{"not the tenant's own two words in one", "initechlab", alike},
		{"not the tenant's own short word, where 1 is an l", "1ab", alike},
		{"not the tenant's own number", "5000", kept},
		{"not the tenant's own number with a hyphen", "50-00", kept},
		{"a word of the tenant's and more", "initechson", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(1, func() { CheckUser(tt.user, reserved) }); tt.refused == "" && n > 0 {
				t.Errorf("a good name takes %v allocations", n)
			}
			err := CheckUser(tt.user, reserved)
			if tt.refused == "" {
				if err != nil {
					t.Fatalf("%q: %v", tt.user, err)
				}
				return
			}
			checkRefusal(t, err, "user", tt.user)
			if !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%q: %q, want something about %q", tt.user, err, tt.refused)
			}
		})
	}
}

func TestReservedNames(t *testing.T) {
	t.Run("every built-in name is refused, at every tenant", func(t *testing.T) {
		own, err := NewReserved([]string{"initech"})
		if err != nil {
			t.Fatal(err)
		}
		names := builtInNames()
		if len(names.exact) < 750 {
			t.Errorf("%d names, want at least 750", len(names.exact))
		}
		for name := range names.exact {
			for _, r := range []Reserved{{}, own} {
				checkRefusal(t, CheckUser(name, r), "user", name)
			}
		}
	})
	t.Run("a tenant's words are refused at that tenant alone", func(t *testing.T) {
		a, errA := NewReserved([]string{"initech"})
		b, errB := NewReserved([]string{"globex"})
		bare, errNone := NewReserved(nil)
		if err := errors.Join(errA, errB, errNone); err != nil {
			t.Fatal(err)
		}
		checkRefusal(t, CheckUser("initech", a), "user", "initech")
		for _, r := range []Reserved{b, bare, {}} {
			if err := CheckUser("initech", r); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("a tenant's word that no name can have is an internal error", func(t *testing.T) {
		for _, word := range []string{"", "Initech", "ini tech", "...", "initéch",
			strings.Repeat("a", 65)} {
			_, err := NewReserved([]string{"fine", word})
			if err == nil {
				t.Errorf("%q was accepted", word)
			} else if !fault.Is(err, fault.Internal) {
				t.Errorf("%q: got %v, want kind fault.Internal", word, err)
			}
		}
	})
	t.Run("an error in a list names its line", func(t *testing.T) {
		for text, want := range map[string]string{
			"admin\n":                      "line 1",
			"[skeleton]\nadmin\nadmin\n":   "line 3",
			"# x\n\n[skeleton]\na\nB\n":    "line 5",
			"[exact]\nadmin\n":             "no section",
			"[skeleton]\nadmin\n[wrong]\n": "line 3",
		} {
			if _, err := parseNames(text); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", text, err, want)
			}
		}
	})
	t.Run("common given names and surnames are accepted", func(t *testing.T) {
		for name := range strings.FieldsSeq(`
			aaron ada adam adan admir adela adler ahmed aida akira ali alice amadi amin amit andrew
			anna bank.s barnes bart berit bill billings bob boris carl carol cary chiara clara
			claire clem cliff daire dan.admin dean deborah diana dirk edith emil emma fatima finn
			fire.fly frank garth gwen hank helper hiro ida igor ines ivan jack jill joao jobst
			karim kim legros leila li lina louis lucia mailer.son mario marta medina mia minh
			moderna modi modric moira ng noor norman nur o.neil offenbach olga opal operman otto
			owen park.er partridge payman paul perez prem presley rahul reception-alex recep rita
			roman roots rot rose ruth sam serge sid su.lin sue suzuki sysoev tamara teamster ted
			tim trudy trustram ursula vera viktor vivi walter wang will wu xavier yan yusuf zoe`) {
			if err := CheckUser(name, Reserved{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func FuzzCheckUser(f *testing.F) {
	for _, s := range []string{
		"", "alex", "1001", "ALEX", "adm1n", "sup.port", "4-c1.rn_1n", "..", "911", "9-1-1",
		"c.e.o", "_1_", "1.1.1", "-0-",
		"\u212aarl", "al\xffex", strings.Repeat("m", 64), strings.Repeat("w", 65), "initech",
		"i-n-i-t-e-c-h", "50-00", "rnnrn",
	} {
		f.Add(s)
	}
	reserved, err := NewReserved([]string{"initech", "lab", "5000", strings.Repeat("d", 64)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, user string) {
		err := CheckUser(user, reserved)
		if err != nil {
			checkRefusal(t, err, "user", user)
			if built := CheckUser(user, Reserved{}); built != nil && built.Error() != err.Error() {
				t.Errorf("%q: %q with a tenant's words, %q without", user, err, built)
			}
			return
		}
		if len(user) < 1 || len(user) > 64 ||
			strings.Trim(user, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			t.Errorf("accepted %q", user)
		}
		if err := CheckUser(user, Reserved{}); err != nil {
			t.Errorf("%q is accepted with a tenant's words and refused without: %v", user, err)
		}
		// Separators around a longer name with a letter make no difference.
		if strings.Trim(user, "0123456789_.-") != "" && len(user) > 3 && len(user) < 63 &&
			len(bare(nil, user)) > 3 {
			if err := CheckUser("-"+user+"_", reserved); err != nil {
				t.Errorf("%q is accepted, but not between separators: %v", user, err)
			}
		}
	})
}

func BenchmarkCheckUser(b *testing.B) {
	reserved, err := NewReserved([]string{"initech", "initech-support"})
	if err != nil {
		b.Fatal(err)
	}
	for _, bm := range []struct{ name, user string }{
		{"a name", "maria.gonzalez"},
		{"an extension", "1001"},
		{"the longest name", strings.Repeat("m", 64)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := CheckUser(bm.user, reserved); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
