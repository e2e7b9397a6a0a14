package config

import "strings"

// correct adds to a fault about an unknown name what to write instead: the key that it resembles, as spell writes it.
func (l *loading) correct(f *Fault, name string, spell func(key) string) {
	word := plain(name)
	for refused, why := range fixed {
		if word == plain(refused) {
			f.Problem, f.Hint = "cannot be set", why
			return
		}
	}
	_, last := key{name: name}.split()
	best, bestDistance := -1, 0
	for i, k := range l.keys {
		_, tail := k.split()
		for _, pair := range [...]struct {
			a, b  string
			malus int
		}{
			{word, plain(k.name), 0},
			// The right key in the wrong table, or in none.
			{plain(last), plain(tail), 1},
			{word, plain(tail), 1},
		} {
			d, ok := resemblance(pair.a, pair.b)
			if d += pair.malus; ok && (best < 0 || d < bestDistance) {
				best, bestDistance = i, d
			}
		}
	}
	if best >= 0 {
		f.Hint = didYouMean(spell(l.keys[best]))
	}
}

// nearest is the word that text resembles most, or that it shortens or lengthens; or empty.
func nearest(text string, words []string) string {
	best, bestDistance := "", 0
	for _, w := range words {
		d, ok := resemblance(plain(text), plain(w))
		if !ok && len(text) > 2 {
			ok = strings.HasPrefix(plain(text), plain(w)) || strings.HasPrefix(plain(w), plain(text))
		}
		if ok && (best == "" || d < bestDistance) {
			best, bestDistance = w, d
		}
	}
	return best
}

func didYouMean(word string) string {
	if word == "" {
		return ""
	}
	return "did you mean " + word + "?"
}

// plain takes away what people confuse without misspelling: case, and the sign between words.
func plain(name string) string {
	return strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(strings.ToLower(name))
}

// resemblance is how far a is from the right word b, and whether that is near enough to suggest b: a third of b's letters
// wrong, or a word too many or too few at the end, as in listen_address.
func resemblance(a, b string) (int, bool) {
	if len(a) > longestShown {
		return 0, false
	}
	if strings.HasPrefix(a, b+"_") || strings.HasPrefix(b, a+"_") {
		return 3, true
	}
	d := distance(a, b)
	return d, d <= max(1, len(b)/3)
}

// distance counts the bytes to insert, delete, replace, or swap with a neighbour to make b of a.
func distance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
