package dictionary

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// each runs f for every kernel that this processor can run.
func each(t *testing.T, f func(*testing.T, *kernel)) {
	for _, k := range kernels {
		t.Run(k.name, func(t *testing.T) {
			if k.lacks != "" {
				t.Logf("left out: this processor lacks %s", k.lacks)
				return
			}
			f(t, k)
		})
	}
}

// ha1 is the definition.
func ha1(user, realm, password string) [16]byte {
	return md5.Sum([]byte(user + ":" + realm + ":" + password))
}

// names gives a user and a realm that make a prefix of n bytes.
func names(n int) (user, realm string) {
	const letters = "alex.of-the_phone.codeb.io"
	text := strings.Repeat(letters, n/len(letters)+1)[:n-2]
	return text[:len(text)/3], text[len(text)/3:]
}

func TestThePublishedAnswer(t *testing.T) {
	// From md5sum, so that the test does not rest on this program alone.
	want := [16]byte{0xa8, 0xd8, 0x29, 0xf6, 0xbc, 0xae, 0xaf, 0x3c, 0xd1, 0xbc, 0x10, 0x04, 0x5c, 0xa8, 0xad, 0xcc}
	if !Contains(want, "alex", "phone.codeb.io", "x") {
		t.Error("alex:phone.codeb.io:password123 is not found")
	}
}

func TestTheList(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(passwords, "\n"), "\n")
	if len(lines) != Size {
		t.Fatalf("%d lines, want %d", len(lines), Size)
	}
	seen := map[string]bool{}
	for _, p := range lines {
		if p == "" || rowsOf(len(p)) > maxRows {
			t.Errorf("%q is empty or too long for the table", p)
		}
		if seen[p] {
			t.Errorf("%q stands there twice", p)
		}
		seen[p] = true
		for _, c := range []byte(p) {
			if c <= ' ' || c > '~' {
				t.Errorf("%q has a byte that is not a visible ASCII character", p)
			}
		}
	}
	each(t, func(t *testing.T, k *kernel) {
		left := map[string]bool{}
		for p := range seen {
			left[p] = true
		}
		for _, g := range *k.table() {
			k.passwords(g, func(_ int, p []byte) {
				if !seen[string(p)] {
					t.Errorf("%q is in the table and not in the list", p)
				}
				delete(left, string(p))
			})
		}
		if len(left) > 0 {
			t.Errorf("%d passwords are not in the table", len(left))
		}
	})
}

// passwords calls f with each password of a group and the number of the batch that it is in.
func (k *kernel) passwords(g group, f func(batch int, p []byte)) {
	for batch := range g.batches {
		for lane := range k.lanes {
			var p [4 * maxRows]byte
			f(batch, g.password(&p, g.words[batch*g.rows*k.lanes:][:g.rows*k.lanes], lane))
		}
	}
}

// TestEveryPassword looks for every password behind prefixes of many lengths, in its own batch.
func TestEveryPassword(t *testing.T) {
	each(t, func(t *testing.T, k *kernel) {
		for n := 2; n <= 330; n++ {
			// The lengths that differ in what the kernel does are those of one block; the others are hashed down to them.
			if n > 65 && n%17 != 0 && n != 330 || k.lanes == 1 && n%3 != 0 {
				continue
			}
			user, realm := names(n)
			w := newTask(k.lanes)
			w.prefix = []byte(user + ":" + realm + ":")
			w.begin()
			message := bytes.Clone(w.prefix)
			for _, g := range *k.table() {
				k.passwords(g, func(batch int, p []byte) {
					sum := md5.Sum(append(message, p...))
					w.aim(g.length, &sum)
					if k.scan(w, g.words[batch*g.rows*k.lanes:], 1) != 0 {
						t.Fatalf("%q behind %d bytes is not found", p, n)
					}
				})
			}
		}
	})
}

// TestEdges asks for the first and the last password of the list and of each group of one length, and of the batches at
// its ends, behind prefixes of all lengths.
func TestEdges(t *testing.T) {
	each(t, func(t *testing.T, k *kernel) {
		edges := []string{passwords[:strings.Index(passwords, "\n")]}
		edges = append(edges, passwords[strings.LastIndex(passwords[:len(passwords)-1], "\n")+1:len(passwords)-1])
		for _, g := range *k.table() {
			var of []string
			k.passwords(g, func(_ int, p []byte) { of = append(of, string(p)) })
			for _, i := range []int{0, k.lanes - 1, k.lanes, len(of) - k.lanes - 1, len(of) - k.lanes, len(of) - 1} {
				edges = append(edges, of[min(max(i, 0), len(of)-1)])
			}
		}
		for n := 2; n <= 330; n++ {
			user, realm := names(n)
			for i, p := range edges {
				if (i+n)%(len(edges)/3) != 0 && n%66 != 0 {
					continue // some for every length, all for some
				}
				if !k.contains(ha1(user, realm, p), user, realm, nil) {
					t.Fatalf("%q behind %d bytes is not found", p, n)
				}
			}
		}
	})
}

func TestWhatIsNotCommon(t *testing.T) {
	each(t, func(t *testing.T, k *kernel) {
		r := rand.New(rand.NewPCG(1, 2))
		for n := 2; n <= 330; n++ {
			if k.lanes == 1 && n%8 != 0 {
				continue
			}
			user, realm := names(n)
			var digest [16]byte
			for i := range digest {
				digest[i] = byte(r.Uint32())
			}
			if k.contains(digest, user, realm, nil) {
				t.Errorf("a random digest is found behind %d bytes", n)
			}
			if k.contains(ha1(user, realm, fmt.Sprintf("no-%08x", r.Uint32())), user, realm, nil) {
				t.Errorf("a random password is found behind %d bytes", n)
			}
			// Nor may the kernel see one where there is none, which would be right in the end but slow.
			w := newTask(k.lanes)
			w.prefix = []byte(user + ":" + realm + ":")
			w.begin()
			for _, g := range *k.table() {
				w.aim(g.length, &digest)
				if got := k.scan(w, g.words, g.batches); got != g.batches {
					t.Errorf("a kernel sees a random digest in batch %d of length %d behind %d bytes", got, g.length, n)
				}
			}
		}
	})
}

// TestHalfAMatch takes digests of which only the word that the kernel compares is that of a common password: the search
// must not be misled, nor stop.
func TestHalfAMatch(t *testing.T) {
	each(t, func(t *testing.T, k *kernel) {
		for _, n := range []int{20, 58, 62, 85} { // two blocks and one
			user, realm := names(n)
			for _, p := range []string{"123456", "password", "dragon"} {
				w := newTask(k.lanes)
				w.prefix = []byte(user + ":" + realm + ":")
				w.begin()
				for _, g := range *k.table() {
					if g.length != len(p) {
						continue
					}
					digest := ha1(user, realm, p)
					w.aim(g.length, &digest)
					want := w.want
					w.begin()
					digest[15]++
					scans := 0
					spy := &kernel{lanes: k.lanes, scan: func(w *task, words []uint32, batches int) int {
						scans++
						w.want = want
						return k.scan(w, words, batches)
					}}
					if spy.search(w, g, &digest) {
						t.Errorf("half of %q behind %d bytes is taken for the whole", p, n)
					}
					if scans < 2 {
						t.Errorf("the search for half of %q behind %d bytes ended with it", p, n)
					}
				}
			}
		}
	})
}

func TestContains(t *testing.T) {
	const user, realm = "alex", "phone.codeb.io"
	for _, test := range []struct {
		name     string
		password string
		also     []string
		want     bool
	}{
		{"the commonest", "123456", nil, true},
		{"a common one", "password123", nil, true},
		{"the empty one", "", nil, true},
		{"the user", "alex", nil, true},
		{"the user, in capitals", "ALEX", nil, false},
		{"the realm, which is not asked for", realm, nil, false},
		{"the realm, which is", realm, []string{realm}, true},
		{"the last of also", "Alex Müller", []string{"x", "y", "Alex Müller"}, true},
		{"a long one of also", strings.Repeat("long", 300), []string{strings.Repeat("long", 300)}, true},
		{"none of also", "correct horse", []string{"battery", "staple"}, false},
		{"a good one", "eid3Oogh-aech", nil, false},
		{"a common one with a space behind it", "123456 ", nil, false},
		{"two lines of the list", "123456\npassword", nil, false},
	} {
		each(t, func(t *testing.T, k *kernel) {
			if got := k.contains(ha1(user, realm, test.password), user, realm, test.also); got != test.want {
				t.Errorf("%s: %v, want %v", test.name, got, test.want)
			}
		})
	}
	if Contains(ha1("alex", realm, "123456"), "alexa", realm) {
		t.Error("a common password of another user is found")
	}
}

func TestConcurrently(t *testing.T) {
	each(t, func(t *testing.T, k *kernel) {
		fresh := newKernel(k.name, "", k.lanes, k.scan) // to race for the table, too
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 40 {
					user, realm := names(2 + (i*37+j*11)%150)
					p, want := "dragon", true
					if j%2 == 1 {
						p, want = "not dragon", false
					}
					if fresh.contains(ha1(user, realm, p), user, realm, nil) != want {
						t.Errorf("%q behind %d bytes: not %v", p, len(user)+len(realm)+2, want)
					}
				}
			})
		}
		all.Wait()
	})
}

func TestNothingIsAllocated(t *testing.T) {
	each(t, func(t *testing.T, k *kernel) {
		user, realm := names(60)
		digest := ha1(user, realm, "correct horse")
		also := []string{"battery", "staple"}
		if n := testing.AllocsPerRun(20, func() { k.contains(digest, user, realm, also) }); n >= 1 && !raceEnabled {
			t.Errorf("%v allocations", n)
		}
	})
}

func FuzzContains(f *testing.F) {
	common := map[string]bool{}
	var list []string
	for p := range strings.Lines(passwords) {
		p = strings.TrimSuffix(p, "\n")
		common[p] = true
		list = append(list, p)
	}
	f.Add("alex", "phone.codeb.io", "correct horse", uint16(0))
	f.Add("", "", "", uint16(9999))
	f.Add(strings.Repeat("u", 64), strings.Repeat("r", 253), "ALEX", uint16(77))
	f.Fuzz(func(t *testing.T, user, realm, password string, i uint16) {
		listed := list[int(i)%len(list)]
		for _, k := range kernels {
			if k.lacks != "" || k.lanes == 1 && i%8 != 0 { // one at a time is slow, and slower when watched
				continue
			}
			for _, p := range []string{listed, password} {
				want := common[p] || p == "" || p == user
				if got := k.contains(ha1(user, realm, p), user, realm, nil); got != want {
					t.Errorf("%s: %q of %q at %q: %v, want %v", k.name, p, user, realm, got, want)
				}
			}
		}
	})
}

func BenchmarkContains(b *testing.B) {
	for _, k := range kernels {
		if k.lacks != "" {
			continue
		}
		for _, n := range []int{10, 20, 60, 70, 200} {
			b.Run(fmt.Sprintf("%s/%d", k.name, n), func(b *testing.B) {
				user, realm := names(n)
				digest := ha1(user, realm, "correct horse")
				b.ReportAllocs()
				for b.Loop() {
					if k.contains(digest, user, realm, nil) {
						b.Fatal("found")
					}
				}
			})
		}
	}
}

// BenchmarkLoad is what the first call costs more than the others.
func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		newTable(passwords, chosen.lanes)
	}
}
