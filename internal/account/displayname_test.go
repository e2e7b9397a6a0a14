package account

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// realNames are names of people, companies and phones.
var realNames = []string{
	"Maria Gonzalez", "X", "J. R. R. Tolkien", "Jean-Luc O'Neill", "Anne-Marie d’Arcy",
	"Dr. med. Ute Weiß (HNO)",
	"Renée Zoë Núñez", "Þórbjörg Ægisdóttir", "Łukasz Żółć", "Dvořák Ďurica", "İbrahim Işık",
	"Škvorecký Ģirts", "ʻOkina Kaʻahumanu",
	"Nguyễn Thị Phương Thảo", "Ọláńrewájú Ẹ̀bùn", "Ááłtsʼíísí Begay", "!Xóõ ǂHoan", "Ŵyn ap Siôn",
	"Ġużeppi Ħaż-Żgħir",
	"Ngũgĩ wa Thiongʼo", "M̧ajeļ Ļọjļapļap", "Владимир Ильич", "Олена Їжакевич", "Ђорђе Љубичић",
	"Γιώργος Παπαδόπουλος",
	"Ἀριστοτέλης", "Արմեն Խաչատրյան", "გიორგი ბერიძე", "דָּוִד בֶּן־גּוּרִיּוֹן",
	"יצחק \"באג'י\" לוי", "محمد عبد الله", "مُحَمَّدٌ",
	"علی\u200cرضا حسینی", "نور جہاں", "ئوغۇل", "ܝܘܚܢܢ", "अनुष्का शर्मा", "श्री रामकृष्ण",
	"র\u200d্যাচেল রায়", "শ্রীমতী সেন",
	"ਹਰਪ੍ਰੀਤ ਸਿੰਘ", "ગાંધીજી પટેલ", "சுப்பிரமணியன்", "వెంకటేశ్వర్లు", "ಶ್ರೀನಿವಾಸ",
	"അനില്\u200d കുമാര്\u200d", "ක්\u200dරිෂාන්ත ශ්\u200dරී",
	"สมชาย ณ อยุธยา", "ปิ่นเกล้า น้ำทิพย์", "ສົມສັກ", "အောင်ဆန်းစုကြည်", "ကျွှုံ့",
	"ព្រះបាទ នរោត្ដម", "བསྟན་འཛིན་རྒྱ་མཚོ", "ኃይለ ሥላሴ",
	"ᎠᏂᏴᏫᏯ", "ᓄᓇᕗᑦ", "ᠴᠢᠩᠭᠢᠰ\u180b", "김정은", "남궁 민수", "山田 太郎", "辻\U000E0100 一郎", "髙橋・ジョン", "習近平",
	"𠮷野家", "𞤀𞤣𞤤𞤢𞤥",
	"Anna 👩\u200d👩\u200d👧\u200d👦", "Kim 👩🏽\u200d⚕️", "Bo ❤️ 🇨🇭 #️⃣ 1️⃣", "Lea 🏳️\u200d🌈",
	"Empfang 2. OG", "Lager ½ / Süd", "٣٤ الاستقبال", "Ⅳ. Zug",
}

func TestCleanNameRealNames(t *testing.T) {
	if len(realNames) < 60 {
		t.Errorf("%d names, want 60", len(realNames))
	}
	for _, name := range realNames {
		t.Run(name, func(t *testing.T) {
			composed := norm.NFC.String(name)
			for form, typed := range map[string]string{"as typed": name, "composed": composed,
				"decomposed": norm.NFD.String(name)} {
				if got, err := CleanName(typed); err != nil || got != composed {
					t.Errorf("%s: %+q, %v; want %+q", form, got, err, composed)
				}
			}
		})
	}
}

func TestCleanName(t *testing.T) {
	tests := []struct {
		name, raw, want string
	}{
		{"surrounding white space is removed", "  Alex  ", "Alex"},
		{"white space inside becomes one space", "Alex   B", "Alex B"},
		{"every kind of space is white space", "\u3000Alex\u00a0\u2003\u202f\u1680B\u2009",
			"Alex B"},
		{"accents are composed", "Rene\u0301e", "Ren\u00e9e"},
		{"accents are reordered", "a\u0301\u0323", "\u1ea1\u0301"},
		{"Hangul is composed", "\u1112\u1161\u11ab", "\ud55c"},
		{"a character that NFC decomposes stays decomposed", "\u0958", "\u0915\u093c"},
		{"a compatibility ideograph becomes the unified one", "\uf900", "\u8c48"},
		{"full-width letters stay", "\uff21\uff4c\uff45\uff58", "\uff21\uff4c\uff45\uff58"},
		{"case stays", "mcDonald VAN der Berg", "mcDonald VAN der Berg"},
		{"markup is accepted, since pages escape it", `"><img src=x onerror=alert(1)>`,
			`"><img src=x onerror=alert(1)>`},
		{"an encoded word is accepted", "=?utf-8?q?a=0D=0ABcc:?=", "=?utf-8?q?a=0D=0ABcc:?="},
		{"quotes and backslashes are accepted", `a" <sip:911@x>;x="\`, `a" <sip:911@x>;x="\`},
		{"a link is accepted", "WIN http://x.test", "WIN http://x.test"},
		{"one digit is enough", "7", "7"},
		{"a digit of another script is enough", "\u0663", "\u0663"},

		{"one hundred and twenty ASCII letters", strings.Repeat("a", 120),
			strings.Repeat("a", 120)},
		{"not one hundred and twenty-one", strings.Repeat("a", 121), ""},
		{"one hundred and twenty ideographs, 360 bytes", strings.Repeat("字", 120),
			strings.Repeat("字", 120)},
		{"one hundred and twenty code points of four bytes", strings.Repeat("\U00010000", 120),
			strings.Repeat("\U00010000", 120)},
		{"not one hundred and twenty-one of four bytes", strings.Repeat("\U00010000", 121), ""},
		{"code points are counted after composition", strings.Repeat("e\u0301", 120),
			strings.Repeat("\u00e9", 120)},
		{"code points are counted after decomposition",
			strings.Repeat("\u0958", 60), strings.Repeat("\u0915\u093c", 60)},
		{"not one hundred and twenty-two after decomposition", strings.Repeat("\u0958", 61), ""},
		{"surrounding white space does not count", " " + strings.Repeat("a", 120) + "\u3000",
			strings.Repeat("a", 120)},

		{"not an empty name", "", ""},
		{"not white space alone", " \u00a0\u3000 ", ""},
		{"not punctuation alone", "-- ??", ""},
		{"not emoji alone", "😀👍🏽", ""},
		{"not an accent by itself", "\u0301", ""},

		{"not invalid UTF-8", "\xff\xfe", ""},
		{"not an overlong slash", "a\xc0\xafb", ""},
		{"not a surrogate", "a\xed\xa0\x80b", ""},
		{"not half a character", "a\xe5\xad", ""},
		{"not a replacement character", "a\ufffdb", ""},
		{"not an object replacement character", "a\ufffcb", ""},

		{"not a zero byte", "a\x00b", ""},
		{"not a line break", "a\r\nBcc: x@y.test", ""},
		{"not a line feed at the end", "Alex\n", ""},
		{"not a line break alone", "\n", ""},
		{"not a tab", "a\tb", ""},
		{"not an escape sequence", "a\x1b[2J", ""},
		{"not a delete character", "a\x7fb", ""},
		{"not a next-line character", "a\u0085b", ""},
		{"not a line separator", "a\u2028b", ""},
		{"not a paragraph separator", "a\u2029b", ""},

		{"not a direction override", "A\u202eB", ""},
		{"not a direction embedding", "A\u202aB\u202c", ""},
		{"not an isolate", "A\u2066B\u2069", ""},
		{"not a direction mark", "A\u200fB", ""},
		{"not an Arabic letter mark", "A\u061cB", ""},
		{"not a zero-width space", "\u200b", ""},
		{"not a zero-width space between letters", "A\u200bB", ""},
		{"not a word joiner", "A\u2060B", ""},
		{"not a byte order mark", "\ufeffAlex", ""},
		{"not a soft hyphen", "Al\u00adex", ""},
		{"not tag characters", "A\U000E0041\U000E0042", ""},
		{"not a flag made of tags",
			"A 🏴\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F", ""},
		{"not a blank letter", "\u3164", ""},
		{"not a blank letter between letters", "A\u3164B", ""},
		{"not a half-width blank letter", "\uffa0", ""},
		{"not Hangul fillers", "\u115f\u1160", ""},
		{"not a blank Braille pattern", "A\u2800B", ""},
		{"not a grapheme joiner", "a\u034f\u0301", ""},
		{"not an annotation", "A\ufff9b\ufffa", ""},

		{"not a private-use character", "A\ue000", ""},
		{"not a private-use character of another plane", "A\U000F0000", ""},
		{"not an unassigned character", "A\u0378", ""},
		{"not an unassigned character of another plane", "A\U0003FFFD", ""},
		{"not a noncharacter", "A\ufdd0", ""},
		{"not the last code point", "A\U0010FFFF", ""},

		{"a joiner between Persian letters", "می\u200cخواهم", "می\u200cخواهم"},
		{"a joiner after a virama", "ന്\u200d", "ന്\u200d"},
		{"not a joiner at the start", "\u200dAlex", ""},
		{"not a joiner at the end", "Alex\u200c", ""},
		{"not a joiner next to a space", "Alex\u200d B", ""},
		{"not two joiners", "می\u200c\u200cخواهم", ""},
		{"not a joiner between digits", "1\u200d2", ""},
		{"not a joiner after the last pictograph", "A 👩\u200d", ""},
		{"not a non-joiner between pictographs", "A 👩\u200c👧", ""},
		{"not a joiner between a pictograph and a letter", "👩\u200dA", ""},
		{"a selector after a heart", "A ❤\ufe0f", "A ❤\ufe0f"},
		{"a selector after two exclamation marks", "A ‼\ufe0f", "A ‼\ufe0f"},
		{"not a selector after a letter", "A\ufe0f", ""},
		{"not a selector after a letter, of any kind", "A\U000E0100", ""},
		{"not a selector after a digit without a keycap", "1\ufe0f", ""},
		{"not two selectors", "A ❤\ufe0f\ufe0f", ""},
		{"not a selector at the start", "\ufe0fA", ""},
		{"not a selector after an accent", "❤\u0301\ufe0f A", ""},
		{"not a Mongolian selector after a Latin letter", "A\u180b", ""},

		{"not an accent at the start", "\u0301Alex", ""},
		{"not an accent after a space", "Alex \u0301", ""},
		{"four accents on one letter", "q\u0301\u0302\u0303\u0304", "q\u0301\u0302\u0303\u0304"},
		{"not five accents on one letter", "q\u0301\u0302\u0303\u0304\u0306", ""},
		{"not a stack of accents", "Z" + strings.Repeat("\u0336\u0322\u0300", 10) + "algo", ""},
		{"not more accents than a normaliser accepts", "Z" + strings.Repeat("\u0300", 100), ""},
		{"a tall stack of Tibetan", "ཀྵྨྱྲུཾ", norm.NFC.String("ཀྵྨྱྲུཾ")},
		{"not a stack of vowel signs", "ก" + strings.Repeat("\u0e38", 9), ""},
		{"not a stack of accents with joiners between", "ab\u0301\u0302\u200d\u0303\u0304\u200d\u0306c", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := CleanName(tt.raw)
			if tt.want == "" {
				checkRefusal(t, err, "name", tt.raw)
				if got != "" {
					t.Errorf("%+q: got %+q with an error", tt.raw, got)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("%+q: %+q, %v; want %+q", tt.raw, got, err, tt.want)
			}
			if again, err := CleanName(got); err != nil || again != got {
				t.Errorf("%+q, cleaned again: %+q, %v", got, again, err)
			}
		})
	}
}

func TestCleanNameErrors(t *testing.T) {
	for raw, want := range map[string]string{
		" ":                      "is empty",
		strings.Repeat("a", 121): "at most 120 characters",
		"a\nb":                   "control character",
		"\u200b":                 "cannot be seen",
		"A\u202eB":               "direction",
		"A\ue000":                "no standard alphabet",
		"\u0301":                 "no letter before it",
		"😀":                      "at least one letter or digit",
		"\xff":                   "UTF-8",
		"a\ufffd":                "replacement",
	} {
		if _, err := CleanName(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+q: %v, want something about %q", raw, err, want)
		}
	}
}

func FuzzCleanName(f *testing.F) {
	for _, name := range realNames {
		f.Add(name)
	}
	for _, s := range []string{
		"", " ", " Alex  B ", "\u00a0\u0308a", "a\u0301\u0323", "\u1112\u1161\u11ab", "\u0958",
		"a\xffb", "a\u200db", "❤\ufe0f\u200d🔥",
		"Z\u0300\u0301\u0302\u0303\u0304", "A\u3164B", "A\u202eB", "a\u2028", "\U0001D160",
		strings.Repeat("\u0958", 61),
		"a\u0300" + strings.Repeat("\u0334", 40), "\u2000\u2001A", "1\ufe0f\u20e3", "👩\u200d",
		"\u212b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		name, err := CleanName(raw)
		if err != nil {
			checkRefusal(t, err, "name", raw)
			return
		}
		if !utf8.ValidString(name) || !norm.NFC.IsNormalString(name) {
			t.Errorf("%+q: %+q is not in form C", raw, name)
		}
		if n := utf8.RuneCountInString(name); n < 1 || n > 120 || len(name) > 480 {
			t.Errorf("%+q: %d code points, %d bytes", raw, n, len(name))
		}
		if strings.TrimSpace(name) != name || strings.Contains(name, "  ") {
			t.Errorf("%+q: white space is left in %+q", raw, name)
		}
		hasWord := false
		for _, r := range name {
			hasWord = hasWord || unicode.IsLetter(r) || unicode.IsNumber(r)
			if !unicode.IsGraphic(r) && r != zwj && r != zwnj {
				t.Errorf("%+q: %U is left", raw, r)
			}
		}
		if !hasWord {
			t.Errorf("%+q: no letter and no digit", raw)
		}
		if again, err := CleanName(name); err != nil || again != name {
			t.Errorf("%+q, cleaned again: %+q, %v", name, again, err)
		}
		if again, err := CleanName(norm.NFD.String(name)); err != nil || again != name {
			t.Errorf("%+q, decomposed and cleaned again: %+q, %v", name, again, err)
		}
	})
}

func BenchmarkCleanName(b *testing.B) {
	for _, bm := range []struct{ name, raw string }{
		{"ASCII", "Maria Gonzalez Fernandez"},
		{"Latin with accents", "María González Fernández"},
		{"Devanagari", "अनुष्का शर्मा"},
		{"the longest", strings.Repeat("\U00010000", 120)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := CleanName(bm.raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
