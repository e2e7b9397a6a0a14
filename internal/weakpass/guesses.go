package weakpass

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on candidates that are derived from the form. The kernels hash 24 or 80 candidates at a time.
const (
	maxGuesses = 112
	maxWords   = 16
	minWord    = 3
	maxWord    = 28
)

// minimum is the length that most forms require of a password.
const minimum = 12

// digits fill a word up to the minimum.
const digits = "123456789012"

// maxLong is the number of texts too long for a candidate after which no doubled words are
// added to them. Each costs as much as dozens of candidates.
const maxLong = 12

// suffixes are added to each of the form's own words, likeliest first; gen/main.go uses more of
// them for the list. Update the years from time to time.
var suffixes = []string{
	"2026", "123", "1234", "2025", "2026!", "123!", "12345", "2026!!", "!!", "1!", "!", "1", "2025!", "1234!",
}

// likelySuffixes is the number of suffixes that are tried early with a short user name.
const likelySuffixes = 3

// guesser collects the passwords that somebody who knows the form would try.
type guesser struct {
	// candidates are the empty password and the form's texts unchanged, then variants of the
	// words in these texts: alone, repeated and with suffixes, in lower case and capitalised.
	// unchanged is the number of the former. Variants that have the minimum length come before
	// shorter ones, because most people choose their password in a form that requires it.
	candidates []candidate
	unchanged  int
	// long are texts and doubled words that are too long for a candidate.
	long []string
	// words are in lower case, without the bit that MD5 appends to a message.
	words []candidate
}

// collect collects the candidates for a form, and discards earlier ones.
func (g *guesser) collect(s *Signup) {
	local, domain, _ := strings.Cut(s.Email, "@")
	g.candidates, g.words = g.candidates[:0], g.words[:0]
	for _, text := range [...]string{"", s.User, s.Realm, s.Host, s.Email, local} {
		g.addText(text)
	}
	for _, name := range s.Names {
		g.addText(name)
	}
	g.unchanged = len(g.candidates)

	g.addName(s.User, "")
	g.addName(s.User, separators)
	g.addName(local, separators)
	for _, name := range s.Names {
		g.addName(name, separators)
	}
	g.addHost(s.Host)
	g.addHost(s.Realm)
	g.addHost(domain)

	for i := range g.words {
		g.add(&g.words[i], 1, "", true)
	}
	for i := range g.words {
		w := &g.words[i]
		if w.length < minimum {
			g.add(w, 1, digits[:minimum-w.length], true)
		}
	}
	for i := range g.words {
		w := &g.words[i]
		if w.length < minimum/2 {
			g.add(w, (minimum+w.length-1)/w.length, "", false)
			continue
		}
		g.add(w, 2, "", false)
	}
	if len(s.User) > maxWord {
		g.long = append(g.long, strings.Repeat(s.User, 2))
	}
	for _, short := range []bool{false, true} {
		for j, suffix := range suffixes {
			for i := range g.words {
				w := &g.words[i]
				length := w.length + len(suffix)
				// The user name is the likeliest word, even for clients without a minimum length.
				likely := i == 0 && j < likelySuffixes
				if (length < minimum && !likely) != short {
					continue
				}
				if length != minimum || !strings.HasPrefix(digits, suffix) { // otherwise it was added above
					g.add(w, 1, suffix, true)
				}
			}
			if len(g.candidates) == maxGuesses {
				return
			}
		}
	}
	for i := range g.words {
		if w := &g.words[i]; w.length < minimum/2 {
			g.add(w, 2, "", false)
		}
	}
}

// addText adds a text unchanged.
func (g *guesser) addText(text string) {
	if len(text) > maxLength {
		g.long = append(g.long, text)
		return
	}
	c := newCandidate(text)
	for i := range g.candidates {
		if g.candidates[i] == c {
			return
		}
	}
	g.candidates = append(g.candidates, c)
}

// separators are the characters that can separate the words of a name.
const separators = " .-_@'+/:"

// addName adds the words of a name, and the name without the separators.
func (g *guesser) addName(name, separators string) {
	var part, whole candidate
	for _, r := range name {
		if r < utf8.RuneSelf && strings.IndexByte(separators, byte(r)) >= 0 {
			g.addWord(&part)
			part = candidate{}
			continue
		}
		part.appendLower(r)
		whole.appendLower(r)
	}
	g.addWord(&part)
	g.addWord(&whole)
}

// addHost adds the labels of a host name, except for the last one if there are several.
func (g *guesser) addHost(host string) {
	if !strings.Contains(host, ".") {
		g.addName(host, "")
	}
	for label, rest, more := strings.Cut(host, "."); more; label, rest, more = strings.Cut(rest, ".") {
		if label != "www" {
			g.addName(label, "")
		}
	}
}

// appendLower appends a letter in lower case. A word longer than maxWord stays too long.
func (c *candidate) appendLower(r rune) {
	switch {
	case c.length > maxWord:
	case r >= utf8.RuneSelf:
		c.length += utf8.EncodeRune(c.text[c.length:], unicode.ToLower(r))
	default:
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		c.text[c.length] = byte(r)
		c.length++
	}
}

// addWord adds a word unless it was added before, if it is long enough to be worth a guess and
// short enough for variants.
func (g *guesser) addWord(w *candidate) {
	if w.length < minWord || w.length > maxWord || len(g.words) == maxWords {
		return
	}
	for i := range g.words {
		if g.words[i] == *w {
			return
		}
	}
	g.words = append(g.words, *w)
}

// add adds a word, repeated times times, with a suffix. If capital is set, it also adds the capitalised form.
func (g *guesser) add(w *candidate, times int, suffix string, capital bool) {
	if times == 2 && times*w.length > maxLength && len(g.long) < maxLong {
		g.long = append(g.long, strings.Repeat(string(w.password()), times))
		return
	}
	n := len(g.candidates)
	if n >= maxGuesses || times*w.length+len(suffix) > maxLength {
		return
	}
	g.candidates = append(g.candidates, *w)
	c := &g.candidates[n]
	for range times - 1 {
		c.length += copy(c.text[c.length:], w.text[:w.length])
	}
	c.length += copy(c.text[c.length:], suffix)
	c.text[c.length] = 0x80
	if capital && 'a' <= w.text[0] && w.text[0] <= 'z' && n+1 < maxGuesses {
		g.candidates = append(g.candidates, *c)
		g.candidates[n+1].text[0] -= 'a' - 'A'
	}
}

// forget removes the form's long texts.
func (g *guesser) forget() {
	clear(g.long)
	g.long = g.long[:0]
}
