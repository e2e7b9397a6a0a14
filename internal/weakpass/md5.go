package weakpass

import (
	"math"
	"math/bits"
)

// MD5 (RFC 1321) processes a block of sixteen words in sixty-four steps, four rounds of
// sixteen. Step i takes the four words a, b, c, d of the state and one word of the block, and
// computes
//
//	a = b + rotate(a + f(b, c, d) + T[i] + word, r)
//
// after which the names rotate by one position. So after four steps each word has been
// replaced, in the order a, d, c, b, and names and positions agree again. For that reason the
// code here and in the assembly does four steps at a time.
//
// The sum T[i]+word is the addend of step i. If the word is the same for every candidate, so is
// the addend, and it is computed once. This is the main difference between hashing and
// searching.
//
// In the last round f(b, c, d) is c ^ (b | ^d), which is ^(c ^ (d &^ b)), which is -(c ^ (d &^ b))
// - 1. So the constants of that round are reduced by one, and c ^ (d &^ b) is subtracted, which
//   saves one operation in each of sixteen steps.

const (
	blockBytes = 64
	blockWords = 16
	blockSteps = 64
)

// constants are the addends of a block of zeros: T[i] = floor(2^32 * |sin(i+1)|), minus one in the last round.
var constants = func() (t [blockSteps]uint32) {
	for i := range t {
		t[i] = uint32(math.Floor(math.Abs(math.Sin(float64(i+1))) * (1 << 32)))
		if i >= 48 {
			t[i]--
		}
	}
	return t
}()

// wordOf returns the index of the block's word that step i takes.
func wordOf(i int) int {
	switch i / 16 {
	case 0:
		return i % 16
	case 1:
		return (5*i + 1) % 16
	case 2:
		return (3*i + 5) % 16
	default:
		return 7 * i % 16
	}
}

// stepsOf contains, for each word of a message of two blocks, the four of the steps 0..127 that take it.
var stepsOf = func() (steps [2 * blockWords][4]uint8) {
	for i := range 2 * blockSteps {
		word := i/blockSteps*blockWords + wordOf(i%blockSteps)
		steps[word][i%blockSteps/16] = uint8(i)
	}
	return steps
}()

// initial is the state before the first block.
var initial = [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}

// rotations are the rotations of the steps by round. They repeat every four steps.
var rotations = [4][4]int{{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}

// advance does the steps from..to-1 on the state s with the addends x. The sums are ordered so
// that the result of the previous step is needed last.
func advance(s *[4]uint32, x *[blockSteps]uint32, from, to int) {
	i := from
	for ; i < to && i%4 != 0; i++ {
		step(s, x[i], i)
	}
	a, b, c, d := s[0], s[1], s[2], s[3]
	end := to
	to &^= 3
	for ; i < min(to, 16); i += 4 {
		y := (*[4]uint32)(x[i:])
		a = b + bits.RotateLeft32((a+y[0])+(d^b&(c^d)), 7)
		d = a + bits.RotateLeft32((d+y[1])+(c^a&(b^c)), 12)
		c = d + bits.RotateLeft32((c+y[2])+(b^d&(a^b)), 17)
		b = c + bits.RotateLeft32((b+y[3])+(a^c&(d^a)), 22)
	}
	for ; i < min(to, 32); i += 4 {
		y := (*[4]uint32)(x[i:])
		a = b + bits.RotateLeft32((a+y[0]+(c&^d))+(b&d), 5)
		d = a + bits.RotateLeft32((d+y[1]+(b&^c))+(a&c), 9)
		c = d + bits.RotateLeft32((c+y[2]+(a&^b))+(d&b), 14)
		b = c + bits.RotateLeft32((b+y[3]+(d&^a))+(c&a), 20)
	}
	for ; i < min(to, 48); i += 4 {
		y := (*[4]uint32)(x[i:])
		a = b + bits.RotateLeft32((a+y[0])+(b^(c^d)), 4)
		d = a + bits.RotateLeft32((d+y[1])+(a^(b^c)), 11)
		c = d + bits.RotateLeft32((c+y[2])+(d^(a^b)), 16)
		b = c + bits.RotateLeft32((b+y[3])+(c^(d^a)), 23)
	}
	for ; i < to; i += 4 {
		y := (*[4]uint32)(x[i:])
		a = b + bits.RotateLeft32((a+y[0])-(c^d&^b), 6)
		d = a + bits.RotateLeft32((d+y[1])-(b^c&^a), 10)
		c = d + bits.RotateLeft32((c+y[2])-(a^b&^d), 15)
		b = c + bits.RotateLeft32((b+y[3])-(d^a&^c), 21)
	}
	s[0], s[1], s[2], s[3] = a, b, c, d
	for ; i < end; i++ {
		step(s, x[i], i)
	}
}

// step does step i on the state s with the addend x.
func step(s *[4]uint32, x uint32, i int) {
	a, b, c, d := &s[-i&3], s[(1-i)&3], s[(2-i)&3], s[(3-i)&3]
	switch i / 16 {
	case 0:
		x += d ^ b&(c^d)
	case 1:
		x += c ^ d&(b^c)
	case 2:
		x += b ^ c ^ d
	case 3:
		x -= c ^ d&^b
	}
	*a = b + bits.RotateLeft32(*a+x, rotations[i/16&3][i%4])
}

// retreat undoes step i, one of the last round, with the addend x.
func retreat(s *[4]uint32, x uint32, i int) {
	a, b, c, d := &s[-i&3], s[(1-i)&3], s[(2-i)&3], s[(3-i)&3]
	*a = bits.RotateLeft32(*a-b, -rotations[3][i%4]) + (c ^ d&^b) - x
}

// add adds t to s word by word, as MD5 does with the state before a block.
func add(s, t *[4]uint32) {
	for i := range s {
		s[i] += t[i]
	}
}
