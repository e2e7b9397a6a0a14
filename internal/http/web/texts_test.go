package web

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dialtone/internal/i18n"
)

// TestPlainWords checks that no page uses a phrase that confused visitors or operators, or that is
// wrong.
func TestPlainWords(t *testing.T) {
	for tag, phrase := range map[i18n.Tag]*regexp.Regexp{
		i18n.English: regexp.MustCompile(`(?i)for a slip|we hope you|a program set itself up|looked up later|` +
			`did not fit|came from here|somebody typed|robots|` +
			`just one message|small sum|` +
			`sign-up|for new accounts|as long as the session|search for less|of each kind|` +
			`^somebody has used|people are waiting|platform itself|one.way key`),
		i18n.German: regexp.MustCompile(`(?i)verwalter|noch einmal senden|dorthin s|von hier kamen|` +
			`einzige nachricht|einweg|für neue konten|wie die sitzung|nach weniger|^jemand hat den|plattform selbst`),
		i18n.French: regexp.MustCompile(`(?i)l.envoyer là|trop d.essais|sont venus d.ici|` +
			`un seul message|sens unique|les nouveaux comptes|que la session\.|de chaque sorte|` +
			`^quelqu.un a utilisé le lien|plateforme elle-même`),
		i18n.Arabic: regexp.MustCompile(`رسالة واحدة|محرف|محارف|أحادي|للحسابات الجديدة|طوال الجلسة|من كل نوع`),
		i18n.Spanish: regexp.MustCompile(`(?i)enviarlo allí|han llegado demasiados|` +
			`un solo mensaje|un solo sentido|^para cuentas nuevas|dure la sesión|de cada tipo|` +
			`^alguien ha usado el enlace|propia plataforma`),
	} {
		words := i18n.In(tag)
		for _, key := range words.Keys() {
			text, _ := words.Find(key)
			if !strings.HasPrefix(key, "message.") && phrase.MatchString(text) {
				t.Errorf("%s in %s: %s", key, tag, text)
			}
		}
	}
}

// TestWaitingTime checks that the time of day is in brackets wherever a text says how long to wait:
// if it is on another day, it begins with a date, and no preposition fits both.
func TestWaitingTime(t *testing.T) {
	for _, tag := range i18n.Tags {
		words := i18n.In(tag)
		for _, key := range words.Keys() {
			text, _ := words.Find(key)
			if strings.Contains(text, "{wait}") != strings.Contains(text, "{wait} ({time})") {
				t.Errorf("%s in %s: %s", key, tag, text)
			}
		}
	}
}

// TestNone checks that the word for "none", which has the grammatical gender of "passkey", is not
// used for anything else.
func TestNone(t *testing.T) {
	files, err := filepath.Glob("pages/*.html")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(page), `"account.none"`); n != strings.Count(string(page),
			`{{if .Passkeys}}{{.Passkeys}}{{else}}{{say "account.none"}}`) {
			t.Errorf("%s has it %d times", file, n)
		}
	}
}

// TestTimesInSentences checks that "3 minutes ago" does not follow "since" or "until": a time after
// a colon or a comma may begin with it, and any other time begins with a date.
func TestTimesInSentences(t *testing.T) {
	files, err := filepath.Glob("pages/*.html")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	said := regexp.MustCompile(`say "([\w.]+)"[^{}]* "when" \((\w+) `)
	labelled := regexp.MustCompile(`say "[\w.]*(since|until)"}}</dt><dd>{{(\w+) `)
	apart := regexp.MustCompile(`[:,،] ?{when}`)
	found := 0
	for _, file := range files {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range labelled.FindAllSubmatch(page, -1) {
			if found++; string(m[2]) != "dated" {
				t.Errorf("%s: %s", file, m[0])
			}
		}
		for _, m := range said.FindAllSubmatch(page, -1) {
			found++
			for _, tag := range i18n.Tags {
				text, _ := i18n.In(tag).Find(string(m[1]))
				text = strings.ReplaceAll(text, "\u00a0", "")
				if string(m[2]) != "dated" && !apart.MatchString(text) {
					t.Errorf("%s: %s in %s: %s", file, m[1], tag, text)
				}
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d times", found)
	}
}

// TestHyphens checks that no line ends after the first part of a word such as e-mail. A non-breaking
// hyphen (U+2011) joins such parts.
func TestHyphens(t *testing.T) {
	short := regexp.MustCompile(`(?i)(?:^|[^\p{L}-])(?:e|one|two|on|co|re)-\p{L}`)
	for _, tag := range i18n.Tags {
		words := i18n.In(tag)
		for _, key := range words.Keys() {
			text, _ := words.Find(key)
			if !strings.HasPrefix(key, "message.") && short.MatchString(text) {
				t.Errorf("%s in %s: %s", key, tag, text)
			}
		}
	}
}

// TestBadges checks that only a page about a message shows an envelope.
func TestBadges(t *testing.T) {
	p := mustPages(t)
	badge := regexp.MustCompile(`<svg class="badge (\w+)"`)
	for state, want := range map[activationState]string{
		activationDone: "done", activationAlready: "done", activationReplaced: "mail", activationUnopened: "mail",
		activationExpired: "clock", activationHeld: "held", activationInvalid: "warning",
		activationTrouble: "warning",
	} {
		out, err := p.render(i18n.English, "activation", activationPage{State: state})
		if err != nil {
			t.Fatal(err)
		}
		shown, _, _ := strings.Cut(string(out), `<section id="inactive"`)
		if got := badge.FindAllStringSubmatch(shown, -1); len(got) != 1 || got[0][1] != want {
			t.Errorf("%s: the badges are %q, want %s", state, got, want)
		}
	}
}
