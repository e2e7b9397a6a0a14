// Package dictionary tells whether an HA1 is that of a common password.
//
// A phone's account is made with HA1 = MD5(user:realm:password), RFC 7616 §3.4.2, worked out in the browser; the server
// never sees the password. It can, however, work out HA1 for each password that anybody would try first, and refuse the
// account that has one of these. The passwords are the 10,000 commonest of the list in zxcvbn-ts 4.1.3 (package
// language-common, MIT, see passwords.LICENSE), besides the empty one, the user's own name, and what the caller adds,
// such as the realm or the name on display.
//
// That this is possible at all is nothing to be proud of: HA1 is a fast hash without a secret. Whoever holds the HA1s can
// do the same with ten thousand million passwords, and need not even do it, since for Digest the HA1 itself is as good as
// the password. That is why HA1s are sealed at rest, and why refusing common passwords matters most against guessing by
// asking, which the limits on sign-in slow down and this list makes hopeless sooner. A password that passes is not known
// to be good; it is only none of these, spelled as they are.
//
// # Speed
//
// Ten thousand calls of crypto/md5 take about a millisecond, too long to be done thousands of times a second. So the
// passwords are hashed side by side, one in each lane of a vector register: 16 with AVX-512, 8 with AVX2, several
// registers at a time. What all passwords of one length have in common is worked out once, which is most of it; task.go
// says what, and md5.go how. The assembly is written by gen/main.go. Processors without AVX2, and other architectures,
// search one password at a time with the same shortcuts. Behind a prefix user:realm: of twenty bytes, one core of an EPYC
// of 2024 takes about 25 µs with AVX-512, 90 µs with AVX2, and 800 µs with neither; twice that when prefix and password
// run over into one block more.
//
// Contains allocates nothing once its memory has been made: about 110 KiB of passwords, on the first call or by Load, and
// some 50 KiB for each call under way. It may be called concurrently. How long it takes tells the length of the prefix
// and, if it answers true, about where in the table the password stands; the answer is for the one who sent the HA1, so
// that is no secret.
package dictionary

import (
	"crypto/md5"
	_ "embed"
	"strings"
	"sync"
)

//go:generate go run ./gen

// Size is the number of passwords in the list.
const Size = 10000

// passwords is the list, one a line, commonest first.
//
//go:embed passwords.txt
var passwords string

// Contains reports whether ha1 is MD5(user:realm:p) for one of the Size commonest passwords p, or for the empty one, user
// itself, or one of also.
func Contains(ha1 [16]byte, user, realm string, also ...string) bool {
	return chosen.contains(ha1, user, realm, also)
}

// Load prepares the list, so that the first call of Contains need not. That takes less than a millisecond.
func Load() { chosen.table() }

// chosen is the fastest kernel that this processor can run. They are in order of speed, and the last can run anywhere.
var chosen = func() *kernel {
	for _, k := range kernels {
		if k.lacks == "" {
			return k
		}
	}
	panic("dictionary: no kernel")
}()

// A kernel is a way to search, with the table of passwords laid out for it.
type kernel struct {
	name string
	// lacks names what the processor does not have of what the kernel needs, or is empty.
	lacks string
	// lanes is the number of passwords in a batch.
	lanes int
	// scan gives the number of the first of so many batches in which a password gives t.want, or batches. words are those
	// of the batches, t.rows*lanes for each. batches is at least one.
	scan func(t *task, words []uint32, batches int) int

	table func() *table
	tasks sync.Pool
}

func newKernel(name, lacks string, lanes int, scan func(*task, []uint32, int) int) *kernel {
	return &kernel{
		name:  name,
		lacks: lacks,
		lanes: lanes,
		scan:  scan,
		table: sync.OnceValue(func() *table { return newTable(passwords, lanes) }),
		tasks: sync.Pool{New: func() any { return newTask(lanes) }},
	}
}

func (k *kernel) contains(ha1 [16]byte, user, realm string, also []string) bool {
	t := k.tasks.Get().(*task)
	defer k.tasks.Put(t)
	defer t.forget()

	t.prefix = append(t.prefix[:0], user...)
	t.prefix = append(t.prefix, ':')
	t.prefix = append(t.prefix, realm...)
	t.prefix = append(t.prefix, ':')

	if t.gives("", ha1) || t.gives(user, ha1) {
		return true
	}
	for _, p := range also {
		if t.gives(p, ha1) {
			return true
		}
	}
	t.begin()
	for _, g := range *k.table() {
		if k.search(t, g, &ha1) {
			return true
		}
	}
	return false
}

// search reports whether ha1 is that of a password in g. A kernel compares one word of the digest, or of the state before
// it; what it finds is checked in full.
func (k *kernel) search(t *task, g group, ha1 *[16]byte) bool {
	t.aim(g.length, ha1)
	size := g.rows * k.lanes
	for at := 0; at < g.batches; at++ {
		at += k.scan(t, g.words[at*size:], g.batches-at)
		if at == g.batches {
			return false
		}
		for lane := range k.lanes {
			var p [4 * maxRows]byte
			if t.gives(string(g.password(&p, g.words[at*size:][:size], lane)), *ha1) {
				return true
			}
		}
	}
	return false
}

// gives reports whether ha1 is MD5 of the prefix and p.
func (t *task) gives(p string, ha1 [16]byte) bool {
	n := len(t.prefix)
	t.prefix = append(t.prefix, p...)
	sum := md5.Sum(t.prefix)
	t.prefix = t.prefix[:n]
	return sum == ha1
}

// A table is the list for a kernel: its passwords by length, shortest first.
type table []group

// A group has the passwords of one length, in batches. A batch is a row of each lane's first word, a row of each lane's
// second word, and so on; a password's words are little-endian, and it is followed by the bit that MD5 puts at the end of
// a message. The last batch is filled up with its last password.
type group struct {
	length, rows, batches int
	words                 []uint32
}

// rowsOf gives the number of words that a password of so many bytes has, with the bit that ends it.
func rowsOf(length int) int { return length/4 + 1 }

func newTable(list string, lanes int) *table {
	var counts [4 * maxRows]int
	for p := range strings.Lines(list) {
		counts[len(p)-1]++ // less the end of the line
	}
	t, of := new(table), [4 * maxRows]*group{}
	total := 0
	for length, n := range counts {
		if n > 0 {
			g := group{length: length, rows: rowsOf(length), batches: (n + lanes - 1) / lanes}
			*t = append(*t, g)
			total += g.batches * g.rows * lanes
		}
	}
	memory := make([]uint32, total)
	for i := range *t {
		g := &(*t)[i]
		size := g.batches * g.rows * lanes
		g.words, memory = memory[:size:size], memory[size:]
		of[g.length] = g
	}

	var placed [4 * maxRows]int
	for line := range strings.Lines(list) {
		p := line[:len(line)-1]
		n := len(p)
		of[n].put(placed[n], lanes, p)
		placed[n]++
		for placed[n] == counts[n] && placed[n]%lanes != 0 {
			of[n].put(placed[n], lanes, p)
			placed[n]++
			counts[n]++
		}
	}
	return t
}

// put writes p as the password number i of g.
func (g *group) put(i, lanes int, p string) {
	at := i/lanes*g.rows*lanes + i%lanes
	for j := 0; j < len(p); j++ {
		g.words[at+j/4*lanes] |= uint32(p[j]) << (j % 4 * 8)
	}
	g.words[at+len(p)/4*lanes] |= 0x80 << (len(p) % 4 * 8)
}

// password reads the password in a lane of a batch, into p.
func (g *group) password(p *[4 * maxRows]byte, batch []uint32, lane int) []byte {
	lanes := len(batch) / g.rows
	for j := range g.length {
		p[j] = byte(batch[j/4*lanes+lane] >> (j % 4 * 8))
	}
	return p[:g.length]
}
