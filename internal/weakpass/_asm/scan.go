// Command asm generates the assembly of package weakpass: functions that do the same as
// scanPortable, for many candidates at a time. It is a separate module, so that the program
// does not depend on the generator.
//
// Run it with "go generate" in internal/weakpass.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// kernel is a function to generate. The two kernels are the same program and differ in the
// width of a vector, and in the instructions of a step.
type kernel struct {
	name    string
	bytes   int // in a vector
	vectors int // hashed in parallel, because each step of one vector depends on the step before
	vector  func() reg.VecVirtual
	// store writes a vector to aligned memory; load reads one from memory that need not be aligned.
	store, load func(from, to Op)
	xor         func(x, y, z Op)
	move        func(from, to Op)
	step        func(k *kernel, round, i int, a, b, c, d, t group)
	// hit jumps to a label if a lane of one of the vectors equals want.
	hit func(k *kernel, vectors group, want reg.VecVirtual, label string)
}

var kernels = []*kernel{
	{"scanAVX512", 64, 5, ZMM, store512, load512, xor512, store512, step512, hit512},
	{"scanAVX2", 32, 3, YMM, VMOVDQA, VMOVDQU, VPXOR, VMOVDQA, step2, hit2},
}

// rotations are the rotations of MD5 by round. They repeat every four steps.
var rotations = [4][4]int{{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}

// functions are the functions f(b, c, d) of MD5 by round. That of the last round is subtracted; see
// md5.go.
var functions = [4]func(b, c, d int) int{
	func(b, c, d int) int { return d ^ b&(c^d) },
	func(b, c, d int) int { return c ^ d&(b^c) },
	func(b, c, d int) int { return b ^ c ^ d },
	func(b, c, d int) int { return c ^ d&^b },
}

// ternary returns the truth table of a function for VPTERNLOGD: bit 4d+2c+b is f(b, c, d).
func ternary(f func(b, c, d int) int) (table uint8) {
	for i := range 8 {
		table |= uint8(f(i&1, i>>1&1, i>>2)) << i
	}
	return table
}

// group has one register for each of the vectors that are hashed in parallel.
type group []reg.VecVirtual

func (k *kernel) group() group {
	g := make(group, k.vectors)
	for i := range g {
		g[i] = k.vector()
	}
	return g
}

// stride returns the number of bytes of one word of every lane.
func (k *kernel) stride() int { return k.bytes * k.vectors }

// at returns the address of vector g.
func (k *kernel) at(m Mem, g int) Mem { return m.Offset(g * k.bytes) }

func main() {
	for _, k := range kernels {
		k.write()
	}
	Generate()
}

func (k *kernel) write() {
	TEXT(k.name, NOSPLIT, "func(scratch *uint32, addends, places *[128]uint32, start, middle *[4]uint32, "+
		"words []uint32, rows, left, right, first, last, batches int, want uint32) int")
	scratch := load("scratch")
	Comment("What to add at the end: zero for one block.")
	zero := k.vector()
	k.xor(zero, zero, zero)
	for g := range k.vectors {
		k.store(zero, k.at(Mem{Base: scratch}, g))
	}

	words, remaining := loadBase("words"), load("batches")
	addends, places := load("addends"), load("places")
	Label("batch")
	k.lay(scratch, words)
	k.hash(scratch, addends, places)

	Comment("The next batch.")
	DECQ(remaining)
	JNZ(LabelRef("batch"))
	Label("done")
	total := load("batches")
	SUBQ(remaining, total)
	VZEROUPPER()
	Store(total, ReturnIndex(0))
	RET()
}

func load(name string) reg.GPVirtual { return Load(Param(name), GP64()).(reg.GPVirtual) }

func loadBase(name string) reg.GPVirtual {
	return Load(Param(name).Base(), GP64()).(reg.GPVirtual)
}

// mem returns the address of a parameter, for instructions that read it from memory.
func mem(name string) Mem {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// repeat repeats body count times, at least once.
func repeat(label string, count reg.GPVirtual, body func()) {
	Label(label)
	body()
	DECQ(count)
	JNZ(LabelRef(label))
}

// lay shifts each word of a batch of candidates to its position after the tail of the prefix
// and writes it to scratch, followed by the lengths, which are not shifted.
func (k *kernel) lay(scratch, words reg.GPVirtual) {
	Comment("Lay the candidates after the prefix.")
	left, right := XMM(), XMM()
	VMOVQ(mem("left"), left)
	VMOVQ(mem("right"), right)
	carry := k.group()
	for _, c := range carry {
		k.xor(c, c, c)
	}
	to := GP64()
	MOVQ(scratch, to)
	next := func() { ADDQ(U32(k.stride()), to) }
	next()
	repeat("lay", load("rows"), func() {
		for g, c := range carry {
			word, laid := k.vector(), k.vector()
			k.load(k.at(Mem{Base: words}, g), word)
			VPSLLD(left, word, laid)
			VPADDD(c, laid, laid)
			VPSRLD(right, word, c)
			k.store(laid, k.at(Mem{Base: to}, g))
		}
		ADDQ(U32(k.stride()), words)
		next()
	})
	for g, c := range carry {
		k.store(c, k.at(Mem{Base: to}, g))
	}
	next()
	for g := range k.vectors {
		length := k.vector()
		k.load(k.at(Mem{Base: words}, g), length)
		k.store(length, k.at(Mem{Base: to}, g))
	}
	ADDQ(U32(k.stride()), words)
}

// hash does the steps from first to last, and jumps to done if a lane matches.
func (k *kernel) hash(scratch, addends, places reg.GPVirtual) {
	Comment("Start from the state that the candidates share.")
	state := [4]group{k.group(), k.group(), k.group(), k.group()}
	start := load("start")
	for i, word := range state {
		for _, w := range word {
			VPBROADCASTD(Mem{Base: start, Disp: 4 * i}, w)
		}
	}
	first, at, end := load("first"), GP64(), GP64()
	MOVQ(first, at)
	ANDQ(I8(-4), at)
	MOVQ(U32(16), end)
	ANDQ(U8(3), first)
	for i := 1; i < 4; i++ {
		CMPQ(first, U8(i))
		JEQ(LabelRef(fmt.Sprintf("first%d", i)))
	}

	Label("block")
	free := k.group()
	for round := range 4 {
		Commentf("Round %d, four steps at a time.", round+1)
		loop := fmt.Sprintf("round%d", round+1)
		Label(loop)
		for i := range 4 {
			if round == 0 && i > 0 {
				Label(fmt.Sprintf("first%d", i))
			}
			a, b, c, d := state[(4-i)%4], state[(5-i)%4], state[(6-i)%4], state[(7-i)%4]
			VPBROADCASTD(Mem{Base: addends, Index: at, Scale: 4, Disp: 4 * i}, free[0])
			k.each(func(g int) { VPADDD(free[0], a[g], a[g]) })
			place, common := GP64(), fmt.Sprintf("%sstep%d", loop, i+1)
			MOVL(Mem{Base: places, Index: at, Scale: 4, Disp: 4 * i}, place.As32())
			TESTL(place.As32(), place.As32())
			JEQ(LabelRef(common))
			k.each(func(g int) {
				VPADDD(k.at(Mem{Base: scratch, Index: place, Scale: 1}, g), a[g], a[g])
			})
			Label(common)
			k.step(k, round, i, a, b, c, d, free)
			if round == 3 {
				step := GP64()
				LEAQ(Mem{Base: at, Disp: i}, step)
				CMPQ(step, mem("last"))
				JEQ(LabelRef(fmt.Sprintf("last%d", i)))
			}
		}
		ADDQ(U8(4), at)
		CMPQ(at, end)
		JNE(LabelRef(loop))
		ADDQ(U8(16), end)
	}

	Comment("The second block starts from the sum of both states.")
	middle := load("middle")
	for i, word := range state {
		VPBROADCASTD(Mem{Base: middle, Disp: 4 * i}, free[0])
		for _, w := range word {
			VPADDD(free[0], w, w)
		}
	}
	for g, w := range state[0] {
		k.store(w, k.at(Mem{Base: scratch}, g))
	}
	JMP(LabelRef("block"))

	Comment("Compare the word that the last step replaced.")
	for i := range 4 {
		Label(fmt.Sprintf("last%d", i))
		k.each(func(g int) { k.move(state[(4-i)%4][g], free[g]) })
		if i < 3 {
			JMP(LabelRef("compare"))
		}
	}
	Label("compare")
	word, want := GP32(), state[0][0]
	Load(Param("want"), word)
	VMOVD(word, want.AsX())
	VPBROADCASTD(want.AsX(), want)
	for g, w := range free {
		VPADDD(k.at(Mem{Base: scratch}, g), w, w)
	}
	k.hit(k, free, want, "done")
}

// each generates one instruction for all vectors before the next instruction, so that none
// waits for the one before it.
func (k *kernel) each(instruction func(g int)) {
	for g := range k.vectors {
		instruction(g)
	}
}

func store512(from, to Op) { VMOVDQA64(from, to) }
func load512(from, to Op)  { VMOVDQU32(from, to) }
func xor512(x, y, z Op)    { VPXORD(x, y, z) }

func step512(k *kernel, round, i int, a, b, c, d, t group) {
	k.each(func(g int) { VMOVDQA64(d[g], t[g]) })
	k.each(func(g int) { VPTERNLOGD(U8(ternary(functions[round])), b[g], c[g], t[g]) })
	k.each(func(g int) { accumulate(round, t[g], a[g]) })
	k.each(func(g int) { VPROLD(U8(rotations[round][i]), a[g], a[g]) })
	k.each(func(g int) { VPADDD(b[g], a[g], a[g]) })
}

func step2(k *kernel, round, i int, a, b, c, d, t group) {
	switch round {
	case 0: // d ^ b&(c^d)
		k.each(func(g int) { VPXOR(c[g], d[g], t[g]) })
		k.each(func(g int) { VPAND(b[g], t[g], t[g]) })
		k.each(func(g int) { VPXOR(d[g], t[g], t[g]) })
	case 1: // b&d + c&^d, which have no bit in common
		k.each(func(g int) { VPANDN(c[g], d[g], t[g]) })
		k.each(func(g int) { VPADDD(t[g], a[g], a[g]) })
		k.each(func(g int) { VPAND(b[g], d[g], t[g]) })
	case 2: // b ^ c ^ d
		k.each(func(g int) { VPXOR(c[g], d[g], t[g]) })
		k.each(func(g int) { VPXOR(b[g], t[g], t[g]) })
	case 3: // c ^ d&^b
		k.each(func(g int) { VPANDN(d[g], b[g], t[g]) })
		k.each(func(g int) { VPXOR(c[g], t[g], t[g]) })
	}
	k.each(func(g int) { accumulate(round, t[g], a[g]) })
	k.each(func(g int) { VPSLLD(U8(rotations[round][i]), a[g], t[g]) })
	k.each(func(g int) { VPSRLD(U8(32-rotations[round][i]), a[g], a[g]) })
	k.each(func(g int) { VPOR(t[g], a[g], a[g]) })
	k.each(func(g int) { VPADDD(b[g], a[g], a[g]) })
}

func accumulate(round int, f, a reg.VecVirtual) {
	if round == 3 {
		VPSUBD(f, a, a)
	} else {
		VPADDD(f, a, a)
	}
}

func hit512(k *kernel, vectors group, want reg.VecVirtual, label string) {
	all := K()
	for g, v := range vectors {
		equal := K()
		VPCMPEQD(v, want, equal)
		if g > 0 {
			KORW(equal, all, all)
		} else {
			all = equal
		}
	}
	KORTESTW(all, all)
	JNZ(LabelRef(label))
}

func hit2(k *kernel, vectors group, want reg.VecVirtual, label string) {
	k.each(func(g int) { VPCMPEQD(vectors[g], want, vectors[g]) })
	for _, v := range vectors[1:] {
		VPOR(v, vectors[0], vectors[0])
	}
	VPTEST(vectors[0], vectors[0])
	JNZ(LabelRef(label))
}
