package account

import (
	"errors"
	"strings"
	"testing"

	"dialtone/internal/fault"
)

func TestCleanASCII(t *testing.T) {
	for _, name := range []string{
		"a", "z", "A", "Z", "0", "9", "a b", "~a", "! a", strings.Repeat("a", maxNameRunes),
	} {
		if !cleanASCII(name) {
			t.Errorf("%q is not clean", name)
		}
	}
	for _, name := range []string{
		"", " ", " a", "a ", "a  b", "a\x1f", "a\x7f", "aä", "~", "!", "/", ":", "@", "[", "`", "{",
		strings.Repeat("a", maxNameRunes+1),
	} {
		if cleanASCII(name) {
			t.Errorf("%q is clean", name)
		}
	}
}

// TestCleanNameLimits checks values at the limits of CleanName and just beyond them.
func TestCleanNameLimits(t *testing.T) {
	for name, rule := range map[string]string{
		strings.Repeat("é", maxNameRunes):     "",
		strings.Repeat("é", maxNameRunes+1):   "long",
		strings.Repeat("𠀀", maxNameBytes/4):   "",
		strings.Repeat("𠀀", maxNameBytes/4+1): "long",
		// Marks that do not compose: Hebrew points, and inherited ones.
		"א" + strings.Repeat("\u05B0", maxMarks):            "",
		"א" + strings.Repeat("\u05B0", maxMarks+1):          "accents",
		"q" + strings.Repeat("\u0301", maxInheritedMarks):   "",
		"q" + strings.Repeat("\u0301", maxInheritedMarks+1): "accents",
		"a 0\uFE0F\u20E3": "",
		"a 9\uFE0F\u20E3": "",
		"a /\uFE0F\u20E3": "hidden",
		"a :\uFE0F\u20E3": "hidden",
		"a 0\uFE0F":       "hidden",
		"a \u203C\uFE0F":  "", // two exclamation marks
		"a \u007E\uFE0F":  "hidden",
	} {
		_, err := CleanName(name)
		if got := ruleOf(err); got != rule {
			t.Errorf("%+q: got rule %q, want %q", name, got, rule)
		}
	}
}

func TestPictograph(t *testing.T) {
	for r, want := range map[rune]bool{
		'\U0001F3FA': true, '\U0001F3FB': true, '\U0001F3FD': true, '\U0001F3FF': true,
		'\u2600': true, '\u2200': true, 'a': false, '+': false, '\u00B4': false, '\u02C2': false,
	} {
		if got := pictograph(r); got != want {
			t.Errorf("%U: %v, want %v", r, got, want)
		}
	}
}

func TestCleanEmailLimits(t *testing.T) {
	local, label := strings.Repeat("a", maxLocal), strings.Repeat("b", maxLabel)
	domain := strings.Repeat("c.", 60) + "test"
	fill := strings.Repeat("d", maxEmail-len("@"+domain)-len(local))
	for email, rule := range map[string]string{
		local + "@b.test":                      "",
		local + "a@b.test":                     "long",
		"a@" + label + ".test":                 "",
		"a@" + label + "b.test":                "domain",
		local + "@" + fill[:63] + "." + domain: "",
		strings.Repeat("a", 4*maxEmail):        "at",
		strings.Repeat("a", 4*maxEmail+1):      "long",
		"a@A.TEST":                             "",
		"a@Z.test":                             "",
		"a@-b.test":                            "domain",
		"a@b-.test":                            "domain",
		"a@b--c.test":                          "",
		"a@\x80.test":                          "domain",
		"a@\u0080.test":                        "domain",
	} {
		_, err := CleanEmail(email)
		if got := ruleOf(err); got != rule {
			t.Errorf("%.80q: got rule %q, want %q", email, got, rule)
		}
	}
}

func TestLowerASCII(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "az": "az", "A": "a", "Z": "z", "AZaz": "azaz", "aAzZ@[`{": "aazz@[`{", "@[": "@[",
		"ÄA": "Äa", "\xffA": "\xffa",
	} {
		if got := lowerASCII(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// ruleOf returns the rule that an error names, or an empty string for no error.
func ruleOf(err error) string {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Rule
	}
	return ""
}
