package weakpass

import (
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// eachKernel runs f for every kernel that this processor can run. The portable one always runs.
func eachKernel(t *testing.T, f func(*testing.T, *kernel)) {
	for _, k := range kernels {
		t.Run(k.name, func(t *testing.T) {
			if k.missing != "" {
				t.Skipf("this processor does not have %s", k.missing)
			}
			f(t, k)
		})
	}
}

// signup returns a form with the hashes of three passwords.
func signup(user, realm, ha1, ha1b, ha1SHA256 string) *Signup {
	b := md5.Sum([]byte(user + "@" + realm + ":" + realm + ":" + ha1b))
	sha := sha256.Sum256([]byte(user + ":" + realm + ":" + ha1SHA256))
	return &Signup{
		User:   user,
		Realm:  realm,
		HA1:    md5.Sum([]byte(user + ":" + realm + ":" + ha1)),
		HA1B:   &b,
		SHA256: &sha,
	}
}

// prefix returns a user and a realm with a prefix user:realm: of n bytes.
func prefix(n int) (user, realm string) {
	const letters = "alex.of-the_phone.codeb.io"
	text := strings.Repeat(letters, n/len(letters)+1)[:n-2]
	return text[:len(text)/3], text[len(text)/3:]
}

func list() []string { return strings.Split(strings.TrimSuffix(passwords, "\n"), "\n") }

const strong = "eid3Oogh-aech1Ei"

func TestAgainstMD5Sum(t *testing.T) {
	// The hash is from md5sum, so that the test does not depend only on Go.
	s := Signup{User: "alex", Realm: "phone.codeb.io"}
	s.HA1 = [16]byte{0xa8, 0xd8, 0x29, 0xf6, 0xbc, 0xae, 0xaf, 0x3c, 0xd1, 0xbc, 0x10, 0x04, 0x5c, 0xa8, 0xad, 0xcc}
	if got := s.Weak(); got != "ha1" {
		t.Errorf("Weak of alex:phone.codeb.io:password123 is %q, want ha1", got)
	}
}

func TestList(t *testing.T) {
	seen := make(map[string]bool)
	short := 0
	for _, p := range list() {
		if p == "" || len(p) > maxLength {
			t.Errorf("%q has %d bytes, want 1 to %d", p, len(p), maxLength)
		}
		if seen[p] {
			t.Errorf("%q is listed twice", p)
		}
		seen[p] = true
		if len(p) < 12 {
			short++
		}
		for _, c := range []byte(p) {
			if c <= ' ' || c == 0x7f {
				t.Errorf("%q has a byte that is not visible", p)
			}
		}
	}
	if short < len(seen)/5 || short > len(seen)/3 {
		t.Errorf("%d of %d passwords have less than 12 characters, want about a quarter", short, len(seen))
	}
	for _, p := range []string{
		"123456", "password", "dragon", "password1234", "Password1234", "Password123!", "password2026",
		"111111111111", "aaaaaaaaaaaa", "qwertyuiop12", "1qaz2wsx3edc", "123456789012", "abcdefghijkl",
		"abcabcabcabc", "passwordpassword", "qwertyqwerty", "iloveyou1234", "football2020", "welcome12345",
		"P@ssw0rd1234", "Dialtone12345", "dialtone2026", "Summer2025!!",
		"Passwort1234", "Sommer2025!!", "hallo1234567", "deutschland1",
		"bonjour12345", "motdepasse12", "Azerty123456", "soleilsoleil",
		"contraseña12", "Contraseña123", "hola12345678", "Verano2026!!",
	} {
		if !seen[p] {
			t.Errorf("%q is not listed", p)
		}
	}
}

func TestEveryListedPassword(t *testing.T) {
	eachKernel(t, func(t *testing.T, k *kernel) {
		user, realm := prefix(20)
		l := k.lists()
		search := newTask(k.lanes)
		for i, p := range list() {
			if k.lanes == 1 && i%50 != 0 {
				continue // one lane is slow
			}
			search.begin(&signup(user, realm, p, "", "").HA1, user, ":", realm, ":")
			if !k.search(search, &l.all) {
				t.Fatalf("%q is not found", p)
			}
		}
	})
}

// TestKernel compares each kernel with crypto/md5, for random candidates of all lengths after
// prefixes of all lengths.
func TestKernel(t *testing.T) {
	eachKernel(t, func(t *testing.T, k *kernel) {
		r := rand.New(rand.NewPCG(1, 2))
		var candidates []candidate
		for n := range 3 * (maxLength + 1) * 10 {
			c := candidate{length: n % (maxLength + 1)}
			for i := range c.length {
				c.text[i] = byte(r.Uint32())
			}
			c.text[c.length] = 0x80
			candidates = append(candidates, c)
		}
		var tab table
		tab.set(candidates, k.lanes)
		search := newTask(k.lanes)
		for n := 2; n <= 330; n++ {
			user, realm := prefix(n)
			message := user + ":" + realm + ":"
			for range 12 {
				c := candidates[r.IntN(len(candidates))]
				digest := md5.Sum(append([]byte(message), c.password()...))
				search.begin(&digest, message)
				if !k.search(search, &tab) {
					t.Fatalf("%q after %d bytes is not found", c.password(), n)
				}
				digest[r.IntN(16)] ^= 1 << r.IntN(8)
				search.begin(&digest, message)
				if k.search(search, &tab) {
					t.Fatalf("%q after %d bytes is found for another digest", c.password(), n)
				}
			}
		}
	})
}

// TestScanIndex checks that a kernel itself finds a match in each lane of each batch, and no match if there is
// none.
func TestScanIndex(t *testing.T) {
	eachKernel(t, func(t *testing.T, k *kernel) {
		var candidates []candidate
		for i := range 3 * k.lanes {
			candidates = append(candidates, newCandidate(fmt.Sprintf("candidate%04d", i)))
		}
		var tab table
		tab.set(candidates, k.lanes)
		g := &tab[groupOf(13)]
		search := newTask(k.lanes)
		for _, n := range []int{2, 3, 20, 41, 42, 43, 50, 63, 64, 65, 130} {
			message := strings.Repeat("p", n)
			for i := range candidates {
				digest := md5.Sum(append([]byte(message), candidates[i].password()...))
				search.begin(&digest, message)
				blocks := 1
				if search.oneBlock() < 13 {
					blocks = 2
				}
				search.aim(g.rows, blocks)
				if got, want := k.scan(search, g.words, 3), i/k.lanes; got != want {
					t.Fatalf("candidate %d after %d bytes is found in batch %d, want %d", i, n, got, want)
				}
				digest = md5.Sum(digest[:])
				search.begin(&digest, message)
				search.aim(g.rows, blocks)
				if got := k.scan(search, g.words, 3); got != 3 {
					t.Fatalf("a digest of no candidate after %d bytes is found in batch %d", n, got)
				}
			}
		}
	})
}

// TestPartialMatch uses digests that equal a candidate's digest only in the word that a kernel
// compares. The search must not stop there.
func TestPartialMatch(t *testing.T) {
	eachKernel(t, func(t *testing.T, k *kernel) {
		user, realm := prefix(60) // two blocks, so that the word compared is the first of the digest
		search := newTask(k.lanes)
		digest := signup(user, realm, "password1234", "", "").HA1
		digest[15]++
		search.begin(&digest, user, ":", realm, ":")
		scans := 0
		counting := &kernel{lanes: k.lanes, scan: func(w *task, words []uint32, batches int) int {
			scans++
			return k.scan(w, words, batches)
		}}
		if counting.search(search, &k.lists().short) {
			t.Error("a partial match of the digest counts as a match")
		}
		all := scans
		digest[0]++
		search.begin(&digest, user, ":", realm, ":")
		scans = 0
		counting.search(search, &k.lists().short)
		if all != scans+1 && all != scans { // the same if the match was in the last batch of its group
			t.Errorf("%d scans with a partial match, %d without", all, scans)
		}
	})
}

func TestWeak(t *testing.T) {
	const user, realm = "alex", "phone.example.net"
	for _, test := range []struct {
		name     string
		password string
		fields   string // that are refused
	}{
		{"the most common password", "123456", "ha1 ha1b ha1_sha256"},
		{"a password of the first few", "password1234", "ha1 ha1b ha1_sha256"},
		{"the last password of the list", list()[len(list())-1], "ha1"},
		{"the last password of the short list", list()[shortList-1], "ha1 ha1b ha1_sha256"},
		{"the first password after the short list", list()[shortList], "ha1"},
		{"the empty password", "", "ha1 ha1b ha1_sha256"},
		{"the user", user, "ha1 ha1b ha1_sha256"},
		{"the realm", realm, "ha1 ha1b ha1_sha256"},
		{"the display name", "Alex Müller", "ha1 ha1b ha1_sha256"},
		{"the address", "alexander.m@mail.test", "ha1 ha1b ha1_sha256"},
		{"the user capitalised", "Alex", "ha1 ha1b ha1_sha256"},
		{"the user three times", "alexalexalex", "ha1 ha1b"},
		{"the user with digits", "alex12345678", "ha1 ha1b"},
		{"the user with a year", "alex2026", "ha1 ha1b"},
		{"the name without its space", "alexmüller", "ha1 ha1b"},
		{"a label of the host with digits", "example12345", "ha1 ha1b"},
		{"the product with digits", "Acmephones123", "ha1 ha1b"},
		{"a strong password", strong, ""},
		{"a common password followed by a space", "123456 ", ""},
		{"two lines of the list", "123456\npassword", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachKernel(t, func(t *testing.T, k *kernel) {
				for _, field := range []string{"ha1", "ha1b", "ha1_sha256"} {
					of := map[string]string{"ha1": strong, "ha1b": strong, "ha1_sha256": strong}
					of[field] = test.password
					s := signup(user, realm, of["ha1"], of["ha1b"], of["ha1_sha256"])
					s.Host, s.Email = "phone.example.net", "alexander.m@mail.test"
					s.Names = []string{"Alex Müller", "Acme Phones"}
					want := ""
					if strings.Contains(" "+test.fields+" ", " "+field+" ") {
						want = field
					}
					if got := k.weak(s); got != want {
						t.Errorf("%q in %s: Weak is %q, want %q", test.password, field, got, want)
					}
				}
			})
		})
	}
}

// An account that signs in with SHA-256 gets the same full check as one that signs in with MD5.
func TestSignInSHA256(t *testing.T) {
	for _, p := range []string{list()[len(list())-1], list()[shortList], "alexalexalex", "alex2026"} {
		s := signup("alex", "phone.example.net", strong, strong, p)
		if got := s.Weak(); got != "" {
			t.Errorf("%q: Weak is %q if the account signs in with MD5", p, got)
		}
		s.SignInSHA256 = true
		if got := s.Weak(); got != "ha1_sha256" {
			t.Errorf("%q: Weak is %q, want ha1_sha256", p, got)
		}
	}
	s := signup("alex", "phone.example.net", strong, strong, strong)
	s.SignInSHA256 = true
	if got := s.Weak(); got != "" {
		t.Errorf("Weak of a strong password is %q", got)
	}
}

// TestOwnWords checks that the words of a form are tried doubled, regardless of their length,
// and capitalised with common endings that people add to reach 12 characters.
func TestOwnWords(t *testing.T) {
	const longUser = "the.very.long.name.of.somebody.who.likes.names"
	for _, c := range []struct {
		user, realm, name, email string
		password                 string
	}{
		{user: "hannelorex", realm: "localhost", password: "localhostlocalhost"},
		{user: "hannelorex", realm: "localhost", password: "hannelorexhannelorex"},
		{user: "hannelorex", realm: "localhost", password: "Localhost2026"},
		{user: "friedrickz", realm: "localhost", password: "friedrickzfriedrickz"},
		{user: "friedricky", realm: "localhost", password: "Friedricky2026"},
		{user: "friedricky", realm: "localhost", password: "friedricky2025"},
		{user: "friedricky", realm: "localhost", password: "Friedricky2026!"},
		{user: "friedricky", realm: "localhost", password: "Friedricky123!"},
		{user: "friedricky", realm: "localhost", password: "Friedricky!!"},
		{user: "hannes", realm: "localhost", password: "Hannes2026!!"},
		{user: "maximilian.schwarzenberg", realm: "phone.example.net",
			password: "maximilian.schwarzenbergmaximilian.schwarzenberg"},
		{user: longUser, realm: "phone.example.net", password: longUser + longUser},
		{user: "al", realm: "telephonecompany.example", password: "telephonecompanytelephonecompany"},
		{user: "al", realm: "r", name: "Annegret Hinterhuber", password: "hinterhuberhinterhuber"},
		{user: "al", realm: "r", name: "Annegret Hinterhuber", password: "Annegret2026"},
		{user: "al", realm: "r", email: "christopher@mail.test", password: "christopherchristopher"},
		{user: "al", realm: "r", email: "christopher@mail.test", password: "Christopher1!"},
	} {
		t.Run(c.password, func(t *testing.T) {
			eachKernel(t, func(t *testing.T, k *kernel) {
				for _, field := range []string{"ha1", "ha1b", "ha1_sha256"} {
					of := map[string]string{"ha1": strong, "ha1b": strong, "ha1_sha256": strong}
					of[field] = c.password
					s := signup(c.user, c.realm, of["ha1"], of["ha1b"], of["ha1_sha256"])
					s.Host, s.Email, s.Names = c.realm, c.email, []string{c.name}
					s.SignInSHA256 = true
					if got := k.weak(s); got != field {
						t.Errorf("%s: Weak is %q, want %q", c.password, got, field)
					}
				}
			})
		})
	}
}

func TestOptionalHashes(t *testing.T) {
	s := signup("alex", "phone.example.net", strong, "123456", "123456")
	s.HA1B = nil
	if got := s.Weak(); got != "ha1_sha256" {
		t.Errorf("Weak without ha1b is %q, want ha1_sha256", got)
	}
	s.SHA256 = nil
	if got := s.Weak(); got != "" {
		t.Errorf("Weak of only ha1 is %q, want none", got)
	}
	if got := signup("alexa", "r", "123456", "", "").Weak(); got != "ha1" {
		t.Errorf("Weak is %q, want ha1", got)
	}
	other := signup("alex", "r", "123456", strong, strong)
	other.User = "alexa"
	if got := other.Weak(); got != "" {
		t.Errorf("Weak of another user's hash is %q, want none", got)
	}
}

func TestRandomPasswordsPass(t *testing.T) {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	eachKernel(t, func(t *testing.T, k *kernel) {
		r := rand.New(rand.NewPCG(3, 4))
		for n := 2; n <= 330; n += 1 + 7/k.lanes {
			p := make([]byte, 16)
			for i := range p {
				p[i] = alphabet[r.IntN(len(alphabet))]
			}
			user, realm := prefix(n)
			s := signup(user, realm, string(p), string(p), string(p))
			s.Email, s.Names = "alex@example.org", []string{"Alex Example", user, realm}
			if got := k.weak(s); got != "" {
				t.Errorf("%q after %d bytes: Weak is %q, want none", p, n, got)
			}
		}
	})
}

func TestLongWords(t *testing.T) {
	eachKernel(t, func(t *testing.T, k *kernel) {
		long := strings.Repeat("long", 300)
		s := signup(strings.Repeat("u", 64), strings.Repeat("r", 253), strong, long, strong)
		s.Names = []string{long, strings.Repeat("a ", 200), strings.Repeat("abcd ", 200), "", "é"}
		if got := k.weak(s); got != "ha1b" {
			t.Errorf("Weak is %q, want ha1b", got)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	eachKernel(t, func(t *testing.T, k *kernel) {
		fresh := newKernel(k.name, "", k.lanes, k.scan) // so that goroutines also race for the lists
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 40 {
					user, realm := prefix(2 + (i*37+j*11)%150)
					p, want := "password1234", "ha1"
					if j%2 == 1 {
						p, want = strong, ""
					}
					if got := fresh.weak(signup(user, realm, p, p, p)); got != want {
						t.Errorf("%q after %d bytes: Weak is %q, want %q", p, len(user)+len(realm)+2, got, want)
					}
				}
			})
		}
		all.Wait()
	})
}

func FuzzWeak(f *testing.F) {
	listed := list()
	f.Add("alex", "phone.example.net", "correct horse", uint16(0))
	f.Add("", "", "", uint16(9999))
	f.Add(strings.Repeat("u", 64), strings.Repeat("r", 253), "ALEX", uint16(77))
	f.Fuzz(func(t *testing.T, user, realm, word string, i uint16) {
		for _, k := range kernels {
			if k.missing != "" || k.lanes == 1 && i%8 != 0 { // one lane is slow, most of all when fuzzing
				continue
			}
			for _, p := range []string{listed[int(i)%len(listed)], word} {
				s := signup(user, realm, p, p, p)
				s.Names = []string{word}
				if got := k.weak(s); got != "ha1" {
					t.Errorf("%s: %q of %q at %q: Weak is %q, want ha1", k.name, p, user, realm, got)
				}
			}
			if got := k.weak(signup(user, realm, strong, strong, strong)); got != "" {
				t.Errorf("%s: a strong password of %q at %q: Weak is %q", k.name, user, realm, got)
			}
		}
	})
}

// BenchmarkWeak measures a full check of a signup with three hashes and a strong password.
func BenchmarkWeak(b *testing.B) {
	for _, k := range kernels {
		if k.missing != "" {
			continue
		}
		for _, n := range []int{10, 20, 35, 60, 200} {
			b.Run(fmt.Sprintf("%s/%d", k.name, n), func(b *testing.B) {
				user, realm := prefix(n)
				s := signup(user, realm, strong, strong, strong)
				s.Host, s.Email = "phone.example.net", "alex.example@mail.test"
				s.Names = []string{"Alex Example", "Acme Phones"}
				b.ReportAllocs()
				for b.Loop() {
					if k.weak(s) != "" {
						b.Fatal("found")
					}
				}
			})
		}
	}
}

// BenchmarkLoad measures the additional cost of the first check.
func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		newLists(passwords, chosen.lanes)
	}
}
