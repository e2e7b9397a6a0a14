package weakpass

import "strings"

// maxGuesses limits the candidates that come from the form.
const maxGuesses = 240

// suffixes are added to each of the form's own words, likeliest first; gen/main.go has more for the
// list. The years are those in which a password may have been chosen. Move them on from time to
// time.
var suffixes = []string{"1", "123", "1234", "12345", "123456", "!", "12345678", "2026", "2025", "123!", "12", "1!",
	"123456789", "1234567890", "2024", "2027", "@123", "01"}

// capitalised is the number of suffixes that are added to the capitalised word too.
const capitalised = 5

// guesser collects what a guesser who knows the form would try.
type guesser struct {
	// candidates are the form's texts as they are and the empty password, then variants of the
	// words in these texts: alone, repeated and with something added, in small letters and
	// capitalised. asTheyAre counts the former.
	candidates []candidate
	asTheyAre  int
	// long are texts that are too long for a candidate.
	long  []string
	words []string
}

// collect replaces what was collected before.
func (g *guesser) collect(s *Signup) {
	local, domain, _ := strings.Cut(s.Email, "@")
	g.candidates = g.candidates[:0]
	for _, text := range [...]string{"", s.User, s.Realm, s.Host, s.Email, local} {
		g.addText(text)
	}
	for _, name := range s.Names {
		g.addText(name)
	}
	g.asTheyAre = len(g.candidates)

	g.addWord(strings.ToLower(s.User))
	g.addName(s.User)
	g.addName(local)
	for _, name := range s.Names {
		g.addName(name)
	}
	g.addHost(s.Host)
	g.addHost(s.Realm)
	g.addHost(domain)

	for _, w := range g.words {
		g.add(w, 1, "", true)
	}
	for _, w := range g.words {
		g.add(w, 2, "", false)
		if len(w) < 6 {
			g.add(w, (12+len(w)-1)/len(w), "", false) // to 12 characters, the usual minimum
		}
	}
	for i, suffix := range suffixes {
		for _, w := range g.words {
			g.add(w, 1, suffix, i < capitalised)
		}
	}
}

// addText adds a text as it is.
func (g *guesser) addText(text string) {
	if len(text) > maxLength {
		g.long = append(g.long, text)
	} else {
		g.candidates = append(g.candidates, newCandidate(text))
	}
}

// addName adds the words of a name, and the name without what is between them.
func (g *guesser) addName(name string) {
	const separators = " .-_@'+/:"
	parts := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return strings.ContainsRune(separators, r)
	})
	if len(parts) > 1 {
		g.addWord(strings.Join(parts, ""))
	}
	for _, p := range parts {
		g.addWord(p)
	}
}

// addHost adds the labels of a host name, without the last one if there are others.
func (g *guesser) addHost(host string) {
	if !strings.Contains(host, ".") {
		g.addWord(strings.ToLower(host))
	}
	for label, rest, more := strings.Cut(host, "."); more; label, rest, more = strings.Cut(rest, ".") {
		if label != "www" {
			g.addWord(strings.ToLower(label))
		}
	}
}

// addWord adds a word that is not there yet, if it is long enough to be guessed at and short enough
// for variants.
func (g *guesser) addWord(w string) {
	if len(w) < 3 || len(w) > 24 {
		return
	}
	for _, known := range g.words {
		if known == w {
			return
		}
	}
	g.words = append(g.words, w)
}

// add adds a word, repeated, with a suffix, and on demand the same capitalised.
func (g *guesser) add(w string, times int, suffix string, capital bool) {
	n := len(g.candidates)
	if n == maxGuesses || times*len(w)+len(suffix) > maxLength {
		return
	}
	g.candidates = append(g.candidates, candidate{})
	c := &g.candidates[n]
	for range times {
		c.length += copy(c.text[c.length:], w)
	}
	c.length += copy(c.text[c.length:], suffix)
	c.text[c.length] = 0x80
	if capital && 'a' <= w[0] && w[0] <= 'z' && n+1 < maxGuesses {
		g.candidates = append(g.candidates, *c)
		g.candidates[n+1].text[0] -= 'a' - 'A'
	}
}

// forget lets go of the form's texts.
func (g *guesser) forget() {
	clear(g.long)
	clear(g.words)
	g.long, g.words = g.long[:0], g.words[:0]
}
