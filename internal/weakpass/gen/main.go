// Command gen derives passwords.txt, the passwords that package weakpass tries, from
// data/common-passwords.txt.
//
// The result has two kinds of passwords: the commonest of any length, for forms without a minimum,
// and the likeliest of 12 to 16 characters, which people choose if a form requires 12. One of the
// first kind is followed by three of the second, so that every prefix of the list is a good
// shorter list.
//
// Each long password has a cost, and the cheapest ones are selected. The cost of a listed password of 12
// to 16 characters, of a keyboard walk, a sequence or a repetition is its position among its kind,
// divided by a weight. The others consist of a word, whose cost is its rank in the list, and of a
// suffix, whose cost is its position in suffixes: the cost is the product, times two if the word is
// capitalised. The list is mostly English. The commonest words of the other languages of the pages are
// in this program; their rank is three times that of an English word. The program has no other input and
// no randomness.
package main

import (
	"cmp"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
)

const (
	shortCount = 2100
	longCount  = 6300
	minLong    = 12
	maxLong    = 16
	// firstYear and lastYear limit the years that follow a word: years of birth of adults, and
	// years in which a password may have been chosen. Update lastYear from time to time.
	firstYear = 1960
	lastYear  = 2030
	// thisYear is tried first.
	thisYear = 2026
	// maxStems is the number of words that passwords are built from. Further words cost too much.
	maxStems = 3000
)

func main() {
	source, err := os.ReadFile("data/common-passwords.txt")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("passwords.txt", []byte(text(strings.Fields(string(source)))), 0o666); err != nil {
		log.Fatal(err)
	}
}

// text returns the list as a file, one password a line.
func text(common []string) string { return strings.Join(derive(common), "\n") + "\n" }

// derive returns the passwords to try, likeliest first. common is in order of frequency.
func derive(common []string) []string {
	short := common[:shortCount]
	long := likeliest(longGuesses(common), short, longCount)
	list := make([]string, 0, shortCount+longCount)
	for i, p := range long {
		if i%(longCount/shortCount) == 0 && len(short) > 0 {
			list = append(list, short[0])
			short = short[1:]
		}
		list = append(list, p)
	}
	return list
}

// guess is a password with its cost: the lower, the likelier.
type guess struct {
	password string
	cost     float64
}

// likeliest returns the n passwords of least cost that are long enough, each once and none of those
// known already.
func likeliest(guesses []guess, known []string, n int) (list []string) {
	slices.SortStableFunc(guesses, func(a, b guess) int { return cmp.Compare(a.cost, b.cost) })
	seen := make(map[string]bool)
	for _, p := range known {
		seen[p] = true
	}
	for _, g := range guesses {
		if len(g.password) < minLong || len(g.password) > maxLong || seen[g.password] {
			continue
		}
		seen[g.password] = true
		if list = append(list, g.password); len(list) == n {
			return list
		}
	}
	log.Fatalf("only %d passwords of %d to %d characters; widen the rules", len(list), minLong, maxLong)
	return nil
}

func longGuesses(common []string) (guesses []guess) {
	add := func(p string, cost float64) {
		if len(p) == maxLong {
			cost *= 1.4 // such a candidate needs as much room as two shorter ones
		}
		guesses = append(guesses, guess{p, cost})
	}
	for i, p := range common { // unchanged
		if len(p) >= minLong {
			add(p, 1+float64(i)/100)
			add(capitalised(p), 2+float64(i)/50)
		}
	}
	for i, p := range patterns() {
		add(p, 1+float64(i)/4)
	}
	tails, stems := suffixes(), words(common)[:maxStems]
	build := func(w string, rank float64) {
		for _, form := range []guess{{w, rank}, {capitalised(w), 2 * rank}} {
			for n := 2; n <= 4; n++ {
				add(strings.Repeat(form.password, n), form.cost)
			}
			for j, tail := range tails {
				add(form.password+tail, form.cost*float64(j+1)/4)
			}
		}
	}
	for i, w := range stems {
		rank := float64(i + 1)
		build(w, rank)
		add(w+capitalised(w), 4*rank)
		for _, form := range []guess{{w, rank}, {capitalised(w), 2 * rank}} {
			add(form.password+w, form.cost)
			for j, head := range []string{"123", "1234", "12345", "123456", "my", "the", "ilove", "iam", "hello"} {
				add(head+form.password, form.cost*float64(j+2))
			}
		}
		for j, v := range stems[:20] { // two words
			add(w+v, rank*float64(j+1))
		}
	}
	for _, language := range [][]string{german, french, spanish} {
		for i, w := range language {
			build(w, 3*float64(i+2))
		}
	}
	return guesses
}

// words returns the words that passwords are built from: the listed ones with a letter, and
// some that lists of short passwords lack.
func words(common []string) (list []string) {
	seen := make(map[string]bool)
	for i := range max(len(english), len(common)) {
		for _, from := range [][]string{english, common} {
			if i < len(from) && !seen[from[i]] && len(from[i]) >= 3 && strings.ContainsAny(from[i], letters) {
				seen[from[i]] = true
				list = append(list, from[i])
			}
		}
	}
	return list
}

// Words with which people begin a password of at least 12 characters, likeliest first: words
// for a password, greetings, seasons, months, and things that people love.
var (
	english = strings.Fields("password qwerty welcome iloveyou p@ssw0rd dialtone admin changeme letmein summer " +
		"winter spring autumn hello login secret telephone phone qwertyuiop asdfghjkl administrator football " +
		"princess sunshine computer internet company january february march april june july august september " +
		"october november december monday friday passw0rd p@ssword")
	german = strings.Fields("passwort sommer hallo geheim willkommen herbst kennwort deutschland schatz " +
		"ichliebedich berlin fussball sonnenschein frühling fruehling telefon familie liebe hamburg münchen " +
		"muenchen bayern januar februar märz juni juli oktober dezember montag freitag")
	french = strings.Fields("motdepasse bonjour azerty azertyuiop soleil jetaime bienvenue printemps automne hiver " +
		"france marseille amour doudou loulou chouchou maison vacances famille salut coucou janvier février " +
		"juillet septembre octobre novembre décembre lundi vendredi")
	spanish = strings.Fields("contraseña contrasena hola bienvenido verano invierno primavera otoño españa teamo " +
		"tequiero estrella clave secreto familia amor barcelona realmadrid madrid futbol enero febrero marzo " +
		"abril agosto septiembre octubre noviembre diciembre lunes viernes")
)

const letters = "abcdefghijklmnopqrstuvwxyz"

// suffixes returns the texts that follow a word, likeliest first.
func suffixes() (list []string) {
	list = strings.Fields(
		"1 123 12 1234 12345 123456 ! 1! 123! 1234567 12345678 123456789 1234567890 @123 1234! 12345! " +
			"01 11 00 69 007 666 777 000 111 321 4321 54321 654321 0000 1111 2222 7777 8888 9999 " +
			"11111 00000 111111 000000 123123 112233 121212 abc abc123 qwe qwerty asdf zxc 1q2w3e " +
			"1q2w3e4r q1w2e3 !! !!! ? . # $ * 123456! #1 @1 _123",
	)
	for _, mark := range []string{"", "!", "!!"} {
		for distance := range lastYear - firstYear {
			for _, year := range []int{thisYear - distance, thisYear + distance} {
				if year >= firstYear && year <= lastYear && (distance > 0 || year == thisYear) {
					list = append(list, fmt.Sprint(year, mark))
				}
			}
		}
	}
	for i, y := range list { // the years of the last decade are likelier than most
		if y == fmt.Sprint(thisYear) {
			recent := slices.Clone(list[i : i+15])
			list = slices.Insert(slices.Delete(list, i, i+15), 12, recent...)
			break
		}
	}
	// So are this year and the last one with punctuation.
	for _, mark := range []string{"!!", "!"} {
		for _, year := range []int{thisYear - 1, thisYear} {
			marked := fmt.Sprint(year, mark)
			i := slices.Index(list, marked)
			list = slices.Insert(slices.Delete(list, i, i+1), 14, marked)
		}
	}
	return list
}

func capitalised(w string) string { return strings.ToUpper(w[:1]) + w[1:] }

// patterns returns keyboard walks, sequences and repetitions, the usual starting points and lengths
// first.
func patterns() (list []string) {
	const digits = "1234567890"
	list = strings.Fields(
		"111111111111 qwertyuiop12 1q2w3e4r5t6y 1qaz2wsx3edc 000000000000 aaaaaaaaaaaa 123123123123 " +
			"121212121212 qwerty123456 asdfghjkl123 112233445566",
	)
	var walks []string
	// Along the rows and columns of a keyboard, both ways, zigzags between two rows, and sequences.
	for _, walk := range []string{
		digits, "0123456789", letters, "qwertyuiopasdfghjklzxcvbnm", "qwertyuiop", "asdfghjkl",
		"zxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn", "qazwsxedcrfvtgbyhnujm", "1q2w3e4r5t6y7u8i9o0p",
		"q1w2e3r4t5y6u7i8o9p0", "qawsedrftgyhujikolp", "zaq1xsw2cde3vfr4bgt5", "qweasdzxc",
		"qwerasdfzxcv", "qwertasdfgzxcvb", "112233445566778899", "111222333444",
		"aabbccddeeffgghh", "1a2b3c4d5e6f7g8h", "a1b2c3d4e5f6g7h8", "123qweasdzxc",
		"qwe123asd456zxc789",
	} {
		walks = append(walks, walk, backwards(walk))
	}
	for n := minLong; n <= maxLong; n++ {
		for _, w := range walks {
			list = append(list, strings.Repeat(w, 2)[:min(n, 2*len(w))])
		}
		for _, c := range digits + letters + "!*.@#$" {
			list = append(list, strings.Repeat(string(c), n))
		}
	}
	for _, unit := range []string{
		"12", "123", "1234", "12345", "123456", "1212", "1122", "112233", "121212", "123321", "10",
		"01", "007", "321", "4321", "654321", "69", "abc", "abcd", "abcdef", "abc123", "qwe",
		"qwer", "qwerty", "qwe123", "123qwe", "asd", "asdf", "asdfgh", "zxc", "zxcv", "qaz",
		"qazwsx", "1qaz", "1q2w3e", "1q2w", "aa11", "ab12", "a1", "1a", "a1b2", "xyz", "12ab",
	} {
		for n := 2; n*len(unit) <= maxLong; n++ {
			list = append(list, strings.Repeat(unit, n))
		}
	}
	for _, first := range []string{
		digits, "qwerty", "qwertyuiop", "asdfghjkl", "abcdef", "abc", "qwe", "asd", "zxc",
		"1q2w3e", "1qaz2wsx", "zxcvbnm",
	} {
		for _, second := range []string{
			digits, "123456789", "12345678", "123456", "qwerty", "qwertyuiop", "abc", "asdfgh",
			"zxcvbn", "!@#", "!",
		} {
			list = append(list, first+second, second+first)
		}
	}
	return list
}

func backwards(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}
