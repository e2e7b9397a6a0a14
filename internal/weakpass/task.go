package weakpass

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"unsafe"
)

// task is one search for a digest: the input of a kernel and its working memory. It is used by one call at a time.
//
// A message is prefix and password. The whole blocks of the prefix are hashed once. The rest of
// it, the tail, is followed in one or two blocks by the password, a bit, zeros and the length.
// Only a few adjacent words of these blocks and the length differ between candidates: the lane
// words. All other words are part of the addends.
//
// So the steps before the first lane word are the same for all candidates, and are done once
// (start, first). The last steps of a single block can be undone from the digest, back to the
// last step that takes a lane word. Of the four words then known, only the one that is computed
// first is compared (last, want). For a prefix of twenty bytes and a password of twelve, 51 of
// the 64 steps remain.
type task struct {
	// addends are the addends of both blocks, without the lane words.
	addends [2 * blockSteps]uint32
	// places contains, for each step, the offset in bytes of its lane word in the kernel's
	// memory, or 0 if it takes no lane word.
	places [2 * blockSteps]uint32
	// middle is the state after the whole blocks of the prefix, and start the state before the step first.
	middle, start [4]uint32
	// fours is the state before step first&^3, where the portable kernel starts, because it
	// does four steps at a time.
	fours [4]uint32
	// want is the required value of the word that step last replaces.
	want uint32
	// left and right are the shifts, in bits, that align a candidate's words after the tail.
	left, right uint32
	// first is the first step to do, 0 to 15. last is the last one: 48 to 60 for one block, 124 for two.
	first, last int
	// blocks is 1 or 2. rows is the number of words of a candidate. Words from..to-1 and the length are lane words.
	blocks, rows, from, to int
	// memory is the kernel's working memory: rows with one word per lane. The first row is
	// added to a at the end. It is followed by rows of lane words, one more than a candidate
	// has, and by the lengths. It is aligned to 64 bytes.
	memory *uint32

	digest [16]byte
	prefix []byte
	tail   int
	lanes  int
	buffer []uint32
}

// newTask returns a task for a kernel with a number of lanes.
func newTask(lanes int) *task {
	const line = 64
	t := &task{lanes: lanes, buffer: make([]uint32, (maxRows+3)*lanes+line/4)}
	// The buffer is not moved, so an aligned address in it stays aligned.
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
	t.first = t.tail / 4
	t.blocks, t.rows = 0, 0
}

// oneBlock returns the length of the longest password that fits into one block with the tail. It can be negative.
func (t *task) oneBlock() int { return blockBytes - 9 - t.tail }

// set sets a word of the two blocks to value, in the four addends that contain it.
func (t *task) set(word int, value uint32) {
	for _, i := range stepsOf[word] {
		t.addends[i] = constants[i%blockSteps] + value
	}
}

// aim prepares the task for candidates with a number of rows, in messages with a number of blocks.
func (t *task) aim(rows, blocks int) {
	lengthWord := blocks*blockWords - 2
	t.from = t.tail / 4
	t.to = t.from + rows
	if t.tail%4 != 0 {
		t.to++ // a shifted candidate occupies one more word
	}
	t.to = min(t.to, lengthWord)
	if t.blocks != blocks {
		var padded [2 * blockBytes]byte
		copy(padded[:], t.prefix[len(t.prefix)-t.tail:])
		binary.LittleEndian.PutUint64(padded[blocks*blockBytes-8:], 8*uint64(len(t.prefix)))
		for i := range blocks * blockWords {
			t.set(i, binary.LittleEndian.Uint32(padded[4*i:]))
		}
		t.start = t.middle
		advance(&t.start, (*[blockSteps]uint32)(t.addends[:]), 0, t.first&^3)
		t.fours = t.start
		advance(&t.start, (*[blockSteps]uint32)(t.addends[:]), t.first&^3, t.first)
	}
	t.blocks, t.rows = blocks, rows

	clear(t.places[:])
	for i, word := range stepsOf[t.from:t.to] {
		t.place(word, i+1)
	}
	t.place(stepsOf[lengthWord], rows+2)

	if blocks == 2 {
		// The state before the second block differs by candidate, so nothing can be undone.
		t.last = blockSteps + 60
		t.want = binary.LittleEndian.Uint32(t.digest[:])
		return
	}
	var s [4]uint32
	for i := range s {
		s[i] = binary.LittleEndian.Uint32(t.digest[4*i:]) - t.middle[i]
	}
	t.last = 60
	for i := blockSteps - 1; t.last > 48 && t.places[i] == 0; i-- {
		retreat(&s, t.addends[i], i)
		t.last--
	}
	t.want = s[-t.last&3]
}

// place makes four steps take the word in a row of the kernel's memory.
func (t *task) place(steps [4]uint8, row int) {
	for _, i := range steps {
		t.places[i] = uint32(4 * t.lanes * row)
	}
}

// matches reports whether the digest is that of the prefix and p.
func (t *task) matches(p []byte) bool {
	n := len(t.prefix)
	t.prefix = append(t.prefix, p...)
	sum := md5.Sum(t.prefix)
	t.prefix = t.prefix[:n]
	return sum == t.digest
}

// matchesAny reports whether the digest is that of the prefix and a password of the list.
func (t *task) matchesAny(list []string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return t.matches([]byte(p)) })
}

// matchesSHA256 reports whether want is the SHA-256 digest of the prefix and p.
func (t *task) matchesSHA256(want *[32]byte, p []byte) bool {
	n := len(t.prefix)
	t.prefix = append(t.prefix, p...)
	sum := sha256.Sum256(t.prefix)
	t.prefix = t.prefix[:n]
	return sum == *want
}

// forget clears the digest, which is password-equivalent.
func (t *task) forget() {
	clear(t.prefix[:cap(t.prefix)])
	t.digest, t.want = [16]byte{}, 0
}

// scanPortable is the kernel for processors that support no other. It has one lane. Like every
// kernel, it gets the words of several batches of candidates and returns the index of the first
// batch with a candidate that matches t.want, or batches if there is none.
func scanPortable(t *task, words []uint32, batches int) int {
	x := t.addends
	lane, length := stepsOf[t.from:t.to], &stepsOf[t.blocks*blockWords-2]
	for batch := range batches {
		row := words[batch*(t.rows+1):][:t.rows+1]
		before := uint32(0)
		for i := range lane {
			w := before
			if i < t.rows {
				w |= row[i] << t.left
				before = row[i] >> t.right
			}
			for _, step := range &lane[i] {
				x[step&127] = t.addends[step&127] + w
			}
		}
		for _, step := range length {
			x[step&127] = t.addends[step&127] + row[t.rows]
		}

		s := t.fours
		var sum uint32
		if t.blocks == 1 {
			advance(&s, (*[blockSteps]uint32)(x[:]), t.first&^3, t.last+1)
		} else {
			advance(&s, (*[blockSteps]uint32)(x[:]), t.first&^3, blockSteps)
			add(&s, &t.middle)
			sum = s[0]
			advance(&s, (*[blockSteps]uint32)(x[blockSteps:]), 0, t.last-blockSteps+1)
		}
		if s[-t.last&3]+sum == t.want {
			return batch
		}
	}
	return batches
}
