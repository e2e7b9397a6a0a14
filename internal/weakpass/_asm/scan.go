// Command asm generates the assembly of package weakpass: functions that do what scanPortable does,
// for many candidates at a time. It is a module of its own, so that the program does not depend on
// the generator.
//
// Run it with "go generate" in internal/weakpass.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const blockSteps = 64

// kernel is a function to write. The two are the same program and differ in the width of a vector,
// and in how a step is put into instructions.
type kernel struct {
	name    string
	bytes   int // in a vector
	vectors int // hashed side by side, because the steps of one wait for each other
	vector  func() reg.VecVirtual
	// store writes a vector to memory that is aligned, load reads one that need not be.
	store, load func(from, to Op)
	xor         func(x, y, z Op)
	step        func(k *kernel, round, i int, addends Mem, a, b, c, d, t group)
	// hit goes to a label if one of the vectors has a lane like want.
	hit func(k *kernel, vectors group, want reg.VecVirtual, label string)
}

var kernels = []*kernel{
	{"scanAVX512", 64, 4, ZMM, store512, load512, xor512, step512, hit512},
	{"scanAVX2", 32, 3, YMM, VMOVDQA, VMOVDQU, VPXOR, step2, hit2},
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

// ternary returns the truth table of a function as VPTERNLOGD takes it: bit 4d+2c+b is f(b, c, d).
func ternary(f func(b, c, d int) int) (table uint8) {
	for i := range 8 {
		table |= uint8(f(i&1, i>>1&1, i>>2)) << i
	}
	return table
}

// group has one register for each of the vectors hashed side by side.
type group []reg.VecVirtual

func (k *kernel) group() group {
	g := make(group, k.vectors)
	for i := range g {
		g[i] = k.vector()
	}
	return g
}

// stride is the number of bytes of a step's addends.
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
	TEXT(k.name, NOSPLIT, "func(memory *uint32, addends *[128]uint32, takers *uint8, start, middle *[4]uint32, "+
		"words []uint32, fill, rows, spill, left, right, first, last, batches int, want uint32) int")
	memory, addends := load("memory"), load("addends")
	sums := Mem{Base: memory, Disp: 2 * blockSteps * k.stride()}
	Comment("What to add at the end: zero for one block.")
	zero := k.vector()
	k.xor(zero, zero, zero)
	for g := range k.vectors {
		k.store(zero, k.at(sums, g))
	}
	k.broadcast(memory, addends)

	words, remaining, stop := loadBase("words"), load("batches"), load("last")
	IMUL3Q(U32(k.stride()), stop, stop)
	ADDQ(memory, stop)
	Label("batch")
	k.lay(memory, addends, words)
	k.hash(memory, stop, sums)

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

// broadcast copies the first addends to every lane of memory.
func (k *kernel) broadcast(memory, addends reg.GPVirtual) {
	Comment("Broadcast addends.")
	from, to := GP64(), GP64()
	MOVQ(addends, from)
	MOVQ(memory, to)
	repeat("fill", load("fill"), func() {
		value := k.vector()
		VPBROADCASTD(Mem{Base: from}, value)
		for g := range k.vectors {
			k.store(value, k.at(Mem{Base: to}, g))
		}
		ADDQ(U8(4), from)
		ADDQ(U32(k.stride()), to)
	})
}

// lay shifts each word of a batch of candidates behind the tail of the prefix and adds it to the
// addends of the four steps that take it. Then it does the same with the lengths, which are not
// shifted.
func (k *kernel) lay(memory, addends, words reg.GPVirtual) {
	Comment("Lay the candidates behind the prefix.")
	takers := load("takers")
	left, right := XMM(), XMM()
	VMOVQ(mem("left"), left)
	VMOVQ(mem("right"), right)
	carry := k.group()
	for _, c := range carry {
		k.xor(c, c, c)
	}
	four := func(word group) {
		for i := range 4 {
			slot, common, sum := GP64(), k.vector(), k.group()
			MOVBQZX(Mem{Base: takers, Disp: i}, slot)
			VPBROADCASTD(Mem{Base: addends, Index: slot, Scale: 4}, common)
			IMUL3Q(U32(k.stride()), slot, slot)
			for g := range sum {
				VPADDD(common, word[g], sum[g])
				k.store(sum[g], k.at(Mem{Base: memory, Index: slot, Scale: 1}, g))
			}
		}
		ADDQ(U8(4), takers)
	}
	repeat("lay", load("rows"), func() {
		word := k.group()
		for g, c := range carry {
			next := k.vector()
			k.load(k.at(Mem{Base: words}, g), next)
			VPSLLD(left, next, word[g])
			VPADDD(c, word[g], word[g])
			VPSRLD(right, next, c)
		}
		four(word)
		ADDQ(U32(k.stride()), words)
	})
	CMPQ(mem("spill"), U8(0))
	JEQ(LabelRef("lengths"))
	four(carry)
	Label("lengths")
	length := k.group()
	for g, l := range length {
		k.load(k.at(Mem{Base: words}, g), l)
	}
	four(length)
	ADDQ(U32(k.stride()), words)
}

// hash does the steps from first to the one whose addends are at stop, and goes to done if a lane
// has what is wanted.
func (k *kernel) hash(memory, stop reg.GPVirtual, sums Mem) {
	Comment("Start from the state that the candidates share.")
	state := [4]group{k.group(), k.group(), k.group(), k.group()}
	start := load("start")
	for i, word := range state {
		for _, w := range word {
			VPBROADCASTD(Mem{Base: start, Disp: 4 * i}, w)
		}
	}
	at, fours := load("first"), GP64()
	MOVQ(U32(blockSteps/4), fours)
	SUBQ(at, fours)
	SHRQ(U8(2), fours)
	IMUL3Q(U32(k.stride()), at, at)
	ADDQ(memory, at)

	Label("block")
	free := k.group()
	for round := range 4 {
		Commentf("Round %d, four steps at a time.", round+1)
		if round > 0 {
			MOVQ(U32(4), fours)
		}
		repeat(fmt.Sprintf("round%d", round+1), fours, func() {
			for i := range 4 {
				a, b, c, d := state[(4-i)%4], state[(5-i)%4], state[(6-i)%4], state[(7-i)%4]
				k.step(k, round, i, Mem{Base: at, Disp: i * k.stride()}, a, b, c, d, free)
				if round == 3 && i == 0 {
					CMPQ(at, stop)
					JEQ(LabelRef("compare"))
				}
			}
			ADDQ(U32(4*k.stride()), at)
		})
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
		k.store(w, k.at(sums, g))
	}
	MOVQ(U32(4), fours)
	JMP(LabelRef("block"))

	Label("compare")
	word, want := GP32(), free[0]
	Load(Param("want"), word)
	VMOVD(word, want.AsX())
	VPBROADCASTD(want.AsX(), want)
	for g, w := range state[0] {
		VPADDD(k.at(sums, g), w, w)
	}
	k.hit(k, state[0], want, "done")
}

// each writes one instruction for all vectors before the next one, so that none waits for the one
// before it.
func (k *kernel) each(instruction func(g int)) {
	for g := range k.vectors {
		instruction(g)
	}
}

func store512(from, to Op) { VMOVDQA64(from, to) }
func load512(from, to Op)  { VMOVDQU32(from, to) }
func xor512(x, y, z Op)    { VPXORD(x, y, z) }

func step512(k *kernel, round, i int, addends Mem, a, b, c, d, t group) {
	k.each(func(g int) { VPADDD(k.at(addends, g), a[g], a[g]) })
	k.each(func(g int) { VMOVDQA64(d[g], t[g]) })
	k.each(func(g int) { VPTERNLOGD(U8(ternary(functions[round])), b[g], c[g], t[g]) })
	k.each(func(g int) { accumulate(round, t[g], a[g]) })
	k.each(func(g int) { VPROLD(U8(rotations[round][i]), a[g], a[g]) })
	k.each(func(g int) { VPADDD(b[g], a[g], a[g]) })
}

func step2(k *kernel, round, i int, addends Mem, a, b, c, d, t group) {
	k.each(func(g int) { VPADDD(k.at(addends, g), a[g], a[g]) })
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
