package weakpass

import "encoding/binary"

// maxRows is the number of words that the longest candidate takes up, with the bit that MD5 puts
// behind a message.
const maxRows = 8

// maxLength is the length of the longest candidate.
const maxLength = 4*maxRows - 1

// candidate is a password of up to maxLength bytes as MD5 reads it: with the bit behind it, and
// zeros.
type candidate struct {
	text   [4 * maxRows]byte
	length int
}

func newCandidate(p string) (c candidate) {
	c.length = copy(c.text[:maxLength], p)
	c.text[c.length] = 0x80
	return c
}

func (c *candidate) password() []byte { return c.text[:c.length] }

// rowsOf returns the number of words that a password of so many bytes takes up.
func rowsOf(length int) int { return length/4 + 1 }

// table has candidates, laid out for a kernel: element i has those of i+1 rows.
type table [maxRows]group

// group has the candidates that take up the same number of words, shortest first, in batches. A
// batch consists of a row of each lane's first word, a row of each lane's second word and so on,
// and a row of the lengths in bits. Words are little-endian. Lanes left over in the last batch are
// zero, which is the hash of nothing.
type group struct {
	rows  int
	words []uint32
	// upTo counts the candidates of the four lengths that the group can have, and of those before
	// them.
	upTo [4]int
}

// set makes the table have these candidates. It keeps the table's memory.
func (t *table) set(candidates []candidate, lanes int) {
	var counts [4 * maxRows]int
	for i := range candidates {
		counts[candidates[i].length]++
	}
	var next [4 * maxRows]int // the place of the next candidate of a length
	for i := range t {
		g := &t[i]
		g.rows = i + 1
		total := 0
		for j := range g.upTo {
			next[4*i+j] = total
			total += counts[4*i+j]
			g.upTo[j] = total
		}
		size := (total + lanes - 1) / lanes * (g.rows + 1) * lanes
		if cap(g.words) < size {
			g.words = make([]uint32, size)
		}
		g.words = g.words[:size]
		clear(g.words)
	}
	for i := range candidates {
		c := &candidates[i]
		t[rowsOf(c.length)-1].put(next[c.length], lanes, c)
		next[c.length]++
	}
}

// put writes c as candidate i.
func (g *group) put(i, lanes int, c *candidate) {
	at := i/lanes*(g.rows+1)*lanes + i%lanes
	for row := range g.rows {
		g.words[at] = binary.LittleEndian.Uint32(c.text[4*row:])
		at += lanes
	}
	g.words[at] = uint32(8 * c.length)
}

// batches returns the range of batches to scan as messages of one or two blocks, if a password of
// up to oneBlock bytes makes a message of one. A batch that has both is scanned twice, and the
// lanes that do not fit find nothing.
func (g *group) batches(blocks, oneBlock, lanes int) (from, to int) {
	shortest := 4 * (g.rows - 1)
	ones := 0
	if oneBlock >= shortest {
		ones = g.upTo[min(oneBlock-shortest, 3)]
	}
	if blocks == 1 {
		return 0, (ones + lanes - 1) / lanes
	}
	total := g.upTo[3]
	if ones == total {
		return 0, 0
	}
	return ones / lanes, (total + lanes - 1) / lanes
}

// read returns the candidate in a lane of a batch, in memory of its own.
func (g *group) read(c *candidate, batch, lane, lanes int) []byte {
	at := batch*(g.rows+1)*lanes + lane
	for row := range g.rows {
		binary.LittleEndian.PutUint32(c.text[4*row:], g.words[at])
		at += lanes
	}
	c.length = int(g.words[at] / 8)
	return c.password()
}
