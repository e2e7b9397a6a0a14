package dictionary

import (
	"encoding/binary"
	"unsafe"
)

// A task is one search: what a kernel needs to know, and the memory that it works in. It belongs to one call at a time.
//
// A message is prefix and password. The whole blocks of the prefix are hashed once; what is left of it, the tail, begins
// one or two blocks that end in the password, a bit, zeros and the length. Of their words only a few, beside each other,
// differ between passwords of one length: those are the lane words, and all the others go into the addends.
//
// Hence the steps before the first lane word are the same for all passwords, and are done once (start, first). From the
// other end, the last steps of a single block can be undone from the digest that is looked for, back to the first that
// takes a lane word, and the word that is made earliest of the four then known is compared alone (last, want). For a
// prefix of twenty bytes and a password of six that leaves 53 steps of 64.
type task struct {
	// x has the addends of both blocks, without the lane words.
	x [2 * blockSteps]uint32
	// steps has the four steps that take each lane word, one lane word after another.
	steps [4 * (maxRows + 1)]uint8
	// middle is the state after the whole blocks of the prefix, start that after the steps before first.
	middle, start [4]uint32
	// want is what the word a must be after step last.
	want uint32
	// left and right are the shifts in bits that put a password's words behind the tail.
	left, right uint32
	// first and last are the first step to do and the last: 0, 4, 8 or 12, and 48, 52, 56 or 60. With two blocks, first
	// is in the first block and last, which is 60, in the second.
	first, last int
	// blocks is 1 or 2. rows is the number of words that a password of this length has in the table, and spill is 1 if
	// it takes up one word more behind the tail.
	blocks, rows, spill int
	// fill lists the steps whose addends changed since the kernel last ran.
	fill []uint8
	// addends is the kernel's memory: for each of the steps 0..127 a vector of addends per lane, and one vector more, which
	// is what has to be added to a at the end. It begins at a multiple of 64 bytes.
	addends *uint32

	prefix []byte
	tail   int
	memory []uint32
}

// maxRows is the number of words that the longest password may have, its end bit included.
const maxRows = 8

// everyStep and lengthSteps are what fill may be: all steps of one or two blocks, and those that take the length.
var (
	everyStep = func() (steps [2 * blockSteps]uint8) {
		for i := range steps {
			steps[i] = uint8(i)
		}
		return steps
	}()
	lengthSteps = [3][]uint8{
		1: append(stepsOf[14][:], stepsOf[15][:]...),
		2: append(stepsOf[30][:], stepsOf[31][:]...),
	}
)

// newTask gives a task for a kernel with so many lanes.
func newTask(lanes int) *task {
	const line = 64
	t := &task{memory: make([]uint32, (2*blockSteps+1)*lanes+line/4)}
	// The memory does not move, so an aligned place in it stays aligned.
	skip := -uintptr(unsafe.Pointer(&t.memory[0])) % line / 4
	t.addends = &t.memory[skip]
	return t
}

// begin prepares the task for a prefix, which is in t.prefix.
func (t *task) begin() {
	t.middle = initial
	rest := t.prefix
	for ; len(rest) >= blockBytes; rest = rest[blockBytes:] {
		for i := range blockWords {
			t.set(i, binary.LittleEndian.Uint32(rest[4*i:]))
		}
		s := t.middle
		advance(&s, (*[blockSteps]uint32)(t.x[:]), 0, blockSteps)
		add(&t.middle, &s)
	}
	t.tail = len(rest)
	t.left = uint32(8 * (t.tail % 4))
	t.right = 32 - t.left
	t.first = t.tail / 4 / 4 * 4
	t.blocks = 0
}

// set makes word the value of that word of the two blocks, in the four addends that have it.
func (t *task) set(word int, value uint32) {
	for _, i := range stepsOf[word] {
		t.x[i] = constants[i%blockSteps] + value
	}
}

// aim turns the task, after begin, to the passwords of one length that give the digest ha1. A kernel must have run, or
// begin been called, since it was last called.
func (t *task) aim(length int, ha1 *[16]byte) {
	blocks := (t.tail + length + 9 + blockBytes - 1) / blockBytes
	if t.blocks == blocks {
		t.fill = lengthSteps[blocks]
	} else {
		t.blocks = blocks
		var padded [2 * blockBytes]byte
		copy(padded[:], t.prefix[len(t.prefix)-t.tail:])
		for i := range blocks * blockWords {
			t.set(i, binary.LittleEndian.Uint32(padded[4*i:]))
		}
		t.fill = everyStep[:blocks*blockSteps]
		t.start = t.middle
		advance(&t.start, (*[blockSteps]uint32)(t.x[:]), 0, t.first)
	}
	size := 8 * uint64(len(t.prefix)+length)
	t.set(blocks*blockWords-2, uint32(size))
	t.set(blocks*blockWords-1, uint32(size>>32))

	from, to := t.tail/4, (t.tail+length)/4+1 // the lane words
	for i, word := range stepsOf[from:to] {
		copy(t.steps[4*i:], word[:])
	}
	t.rows = rowsOf(length)
	t.spill = to - from - t.rows

	t.last = 60
	t.want = binary.LittleEndian.Uint32(ha1[:])
	if blocks == 2 {
		return // The state before the second block differs by password, so nothing can be undone.
	}
	var s [4]uint32
	for i := range s {
		s[i] = binary.LittleEndian.Uint32(ha1[4*i:]) - t.middle[i]
	}
	for ; t.last > 48 && !anyIn(from, to, t.last); t.last -= 4 {
		retreat(&s, (*[4]uint32)(t.x[t.last:]))
	}
	t.want = s[0]
}

// anyIn reports whether one of the four steps that begin with i takes a word of from..to-1.
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

// forget takes out what is left of the HA1, which is as good as a password and so does not stay here after the call.
func (t *task) forget() { t.want = 0 }

// scanPortable is the kernel for processors that have no other, one lane wide. What it does is what every kernel does: it
// takes the words of so many batches of passwords and gives the number of the first batch in which one matches in t.want,
// or batches if there is none.
func scanPortable(t *task, words []uint32, batches int) int {
	x := t.x
	for batch := range batches {
		row := words[batch*t.rows:][:t.rows]
		steps := t.steps[:]
		before := uint32(0)
		lay := func(w uint32) {
			for _, i := range steps[:4] {
				x[i&127] = t.x[i&127] + w
			}
			steps = steps[4:]
		}
		for _, w := range row {
			lay(w<<t.left | before)
			before = w >> t.right
		}
		if t.spill != 0 {
			lay(before)
		}

		s := t.start
		var sum uint32
		if t.blocks == 1 {
			advance(&s, (*[blockSteps]uint32)(x[:]), t.first, t.last+4)
		} else {
			advance(&s, (*[blockSteps]uint32)(x[:]), t.first, blockSteps)
			add(&s, &t.middle)
			sum = s[0]
			advance(&s, (*[blockSteps]uint32)(x[blockSteps:]), 0, t.last+4)
		}
		if s[0]+sum == t.want {
			return batch
		}
	}
	return batches
}
