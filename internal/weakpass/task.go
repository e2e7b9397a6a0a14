package weakpass

import (
	"crypto/md5"
	"encoding/binary"
	"unsafe"
)

// task is one search for a digest: what a kernel needs, and the memory that it works in. It belongs
// to one call at a time.
//
// A message is prefix and password. The whole blocks of the prefix are hashed once. What is left of
// it, the tail, begins one or two blocks that end in the password, a bit, zeros and the length.
// Only a few words of these blocks, beside each other, and the length differ between candidates:
// the lane words. All the others go into the addends.
//
// Hence the steps before the first lane word are the same for all candidates, and are done once
// (start, first). The last steps of a single block can be undone from the digest, back to the last
// that takes a lane word. Of the four words then known, the one that is computed first is compared
// alone (last, want). For a prefix of twenty bytes and a password of six that leaves 53 steps of
// 64.
type task struct {
	// addends are those of both blocks, without the lane words.
	addends [2 * blockSteps]uint32
	// takers are the four steps that take each lane word, one lane word after another, the length
	// at the end.
	takers [4 * (maxRows + 2)]uint8
	// middle is the state after the whole blocks of the prefix, start that after the steps before
	// first.
	middle, start [4]uint32
	// want is what the word a must be after step last.
	want uint32
	// left and right are the shifts in bits that put a candidate's words behind the tail.
	left, right uint32
	// first and last are the first step to do, one of 0, 4, 8 and 12, and the last: 48 to 60 for
	// one block, 124 for two.
	first, last int
	// blocks is 1 or 2. rows is the number of words of a candidate, and spill is 1 if it takes up
	// one more behind the tail.
	blocks, rows, spill int
	// fill is the number of steps whose addends the kernel must copy to memory before it scans.
	fill int
	// memory is the kernel's: for each of the steps 0 to 127 a vector of addends per lane, and one
	// vector more, which is what has to be added to a at the end. It begins at a multiple of 64
	// bytes.
	memory *uint32

	digest [16]byte
	prefix []byte
	tail   int
	buffer []uint32
}

// newTask returns a task for a kernel with so many lanes.
func newTask(lanes int) *task {
	const line = 64
	t := &task{buffer: make([]uint32, (2*blockSteps+1)*lanes+line/4)}
	// The buffer does not move, so an aligned place in it stays aligned.
	skip := -uintptr(unsafe.Pointer(&t.buffer[0])) % line / 4
	t.memory = &t.buffer[skip]
	return t
}

func (t *task) setPrefix(parts ...string) {
	t.prefix = t.prefix[:0]
	for _, p := range parts {
		t.prefix = append(t.prefix, p...)
	}
}

// begin prepares the search for a digest of the prefix, which is given in parts, and a candidate.
func (t *task) begin(digest *[16]byte, prefix ...string) {
	t.digest = *digest
	t.setPrefix(prefix...)
	t.middle = initial
	rest := t.prefix
	for ; len(rest) >= blockBytes; rest = rest[blockBytes:] {
		for i := range blockWords {
			t.set(i, binary.LittleEndian.Uint32(rest[4*i:]))
		}
		s := t.middle
		advance(&s, (*[blockSteps]uint32)(t.addends[:]), 0, blockSteps)
		add(&t.middle, &s)
	}
	t.tail = len(rest)
	t.left = uint32(8 * (t.tail % 4))
	t.right = 32 - t.left
	t.first = t.tail / 4 / 4 * 4
	t.blocks, t.rows = 0, 0
}

// oneBlock returns the length of the longest password that makes a message of one block with the
// tail. It may be negative.
func (t *task) oneBlock() int { return blockBytes - 9 - t.tail }

// set makes word the value of that word of the two blocks, in the four addends that have it.
func (t *task) set(word int, value uint32) {
	for _, i := range stepsOf[word] {
		t.addends[i] = constants[i%blockSteps] + value
	}
}

// aim turns the task to candidates of so many rows, in messages of so many blocks.
func (t *task) aim(rows, blocks int) {
	t.fill = 1 // There must be one.
	if t.blocks != blocks {
		var padded [2 * blockBytes]byte
		copy(padded[:], t.prefix[len(t.prefix)-t.tail:])
		binary.LittleEndian.PutUint64(padded[blocks*blockBytes-8:], 8*uint64(len(t.prefix)))
		for i := range blocks * blockWords {
			t.set(i, binary.LittleEndian.Uint32(padded[4*i:]))
		}
		t.start = t.middle
		advance(&t.start, (*[blockSteps]uint32)(t.addends[:]), 0, t.first)
	}
	if t.blocks != blocks || rows < t.rows {
		t.fill = blocks * blockSteps // Lane words of the scan before may be common words now.
	}
	t.blocks, t.rows = blocks, rows

	from := t.tail / 4
	to := from + rows // the lane words
	t.spill = 0
	if t.tail%4 != 0 {
		t.spill = 1
		to++
	}
	for i, word := range stepsOf[from:to] {
		copy(t.takers[4*i:], word[:])
	}
	copy(t.takers[4*(to-from):], stepsOf[blocks*blockWords-2][:])

	if blocks == 2 {
		// The state before the second block differs by candidate, so nothing can be undone.
		t.last = blockSteps + 60
		t.want = binary.LittleEndian.Uint32(t.digest[:])
		return
	}
	t.last = 60
	var s [4]uint32
	for i := range s {
		s[i] = binary.LittleEndian.Uint32(t.digest[4*i:]) - t.middle[i]
	}
	for ; t.last > 48 && !anyIn(from, to, t.last); t.last -= 4 {
		retreat(&s, (*[4]uint32)(t.addends[t.last:]))
	}
	t.want = s[0]
}

// anyIn reports whether one of the four steps that begin with i takes a word of from to to-1. The
// length is taken by step 50, which is never undone.
func anyIn(from, to, i int) bool {
	for ; ; i++ {
		if word := wordOf(i); from <= word && word < to {
			return true
		}
		if i%4 == 3 {
			return false
		}
	}
}

// gives reports whether the digest is that of the prefix and p.
func (t *task) gives(p []byte) bool {
	n := len(t.prefix)
	t.prefix = append(t.prefix, p...)
	sum := md5.Sum(t.prefix)
	t.prefix = t.prefix[:n]
	return sum == t.digest
}

// givesAny reports whether the digest is that of the prefix and a password of the list.
func (t *task) givesAny(list []string) bool {
	n := len(t.prefix)
	for _, p := range list {
		t.prefix = append(t.prefix[:n], p...)
		if md5.Sum(t.prefix) == t.digest {
			return true
		}
	}
	t.prefix = t.prefix[:n]
	return false
}

// forget removes the digest, which is as good as a password.
func (t *task) forget() {
	clear(t.prefix[:cap(t.prefix)])
	t.digest, t.want = [16]byte{}, 0
}

// scanPortable is the kernel for processors that have no other, one lane wide. It does what every
// kernel does: it takes the words of so many batches of candidates and returns the index of the
// first batch in which one matches in t.want, or batches if there is none.
func scanPortable(t *task, words []uint32, batches int) int {
	x := t.addends
	for batch := range batches {
		row := words[batch*(t.rows+1):][:t.rows+1]
		takers := t.takers[:]
		before := uint32(0)
		lay := func(w uint32) {
			for _, i := range takers[:4] {
				x[i&127] = t.addends[i&127] + w
			}
			takers = takers[4:]
		}
		for _, w := range row[:t.rows] {
			lay(w<<t.left | before)
			before = w >> t.right
		}
		if t.spill != 0 {
			lay(before)
		}
		lay(row[t.rows])

		s := t.start
		var sum uint32
		if t.blocks == 1 {
			advance(&s, (*[blockSteps]uint32)(x[:]), t.first, t.last+4)
		} else {
			advance(&s, (*[blockSteps]uint32)(x[:]), t.first, blockSteps)
			add(&s, &t.middle)
			sum = s[0]
			advance(&s, (*[blockSteps]uint32)(x[blockSteps:]), 0, t.last-blockSteps+4)
		}
		if s[0]+sum == t.want {
			return batch
		}
	}
	return batches
}
