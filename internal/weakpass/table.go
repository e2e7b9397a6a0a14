package weakpass

import "encoding/binary"

// maxRows is the number of words of the longest candidate, including the bit that MD5 appends to a message.
const maxRows = 8

// maxLength is the length of the longest candidate.
const maxLength = 4*maxRows - 1

// candidate is a password of up to maxLength bytes with the padding of MD5: a bit and zeros.
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

// rowsOf are the numbers of words of the candidates of each group. Most candidates have at most
// 15 bytes. More groups would save little work and leave more lanes empty.
var rowsOf = [...]int{4, maxRows}

// groupOf returns the index of the group for candidates of a length.
func groupOf(length int) int {
	if length < 4*rowsOf[0] {
		return 0
	}
	return 1
}

// table contains candidates in the layout for a kernel, in groups by length.
type table [len(rowsOf)]group

// group contains candidates, shortest first, in batches. A batch consists of a row of each lane's first
// word, a row of each lane's second word and so on, and a row of the lengths in bits. Words are
// little-endian. Unused lanes of the last batch are zero, which matches no candidate.
type group struct {
	rows  int
	words []uint32
	// upTo contains, for each length, the number of candidates of that length or shorter.
	upTo [maxLength + 1]int
}

// set replaces the candidates of the table. It reuses the table's memory.
func (t *table) set(candidates []candidate, lanes int) {
	var next [maxLength + 1]int // the count of each length, then the position of its next candidate
	for i := range candidates {
		next[candidates[i].length&maxLength]++
	}
	for i := range t {
		g := &t[i]
		g.rows = rowsOf[i]
		total := 0
		for n := range next {
			if groupOf(n) == i {
				next[n], total = total, total+next[n]
			}
			g.upTo[n] = total
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
		t[groupOf(c.length)].put(next[c.length&maxLength], lanes, c)
		next[c.length&maxLength]++
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

// batches returns the range of batches to scan as messages of one or two blocks, if passwords
// of up to oneBlock bytes make messages of one block. A batch with both is scanned twice; lanes
// of the other kind find nothing.
func (g *group) batches(blocks, oneBlock, lanes int) (from, to int) {
	ones := 0
	if oneBlock >= 0 {
		ones = g.upTo[min(oneBlock, maxLength)]
	}
	if blocks == 1 {
		return 0, (ones + lanes - 1) / lanes
	}
	total := g.upTo[maxLength]
	if ones == total {
		return 0, 0
	}
	return ones / lanes, (total + lanes - 1) / lanes
}

// read reads the candidate in a lane of a batch into c, and returns its password.
func (g *group) read(c *candidate, batch, lane, lanes int) []byte {
	at := batch*(g.rows+1)*lanes + lane
	for row := range g.rows {
		binary.LittleEndian.PutUint32(c.text[4*row:], g.words[at])
		at += lanes
	}
	c.length = int(g.words[at] / 8)
	return c.password()
}
