package weakpass

import "golang.org/x/sys/cpu"

// kernels lists every implementation for amd64, fastest first.
var kernels = []*kernel{
	newKernel("AVX-512", missingFeature(cpu.X86.HasAVX512F, "AVX512F"), lanesAVX512, vectorScan(scanAVX512)),
	newKernel("AVX2", missingFeature(cpu.X86.HasAVX2, "AVX2"), lanesAVX2, vectorScan(scanAVX2)),
	newKernel("portable", "", 1, scanPortable),
}

// The lanes of a vector, times the vectors that _asm/scan.go processes in parallel.
const (
	lanesAVX512 = 16 * 5
	lanesAVX2   = 8 * 3
)

func missingFeature(has bool, feature string) string {
	if has {
		return ""
	}
	return feature
}

// scanFunc is a kernel in assembly. Its parameters are fields of a task.
type scanFunc func(scratch *uint32, addends, places *[128]uint32, start, middle *[4]uint32, words []uint32,
	rows, left, right, first, last, batches int, want uint32) int

//go:noescape
func scanAVX512(scratch *uint32, addends, places *[128]uint32, start, middle *[4]uint32, words []uint32,
	rows, left, right, first, last, batches int, want uint32) int

//go:noescape
func scanAVX2(scratch *uint32, addends, places *[128]uint32, start, middle *[4]uint32, words []uint32,
	rows, left, right, first, last, batches int, want uint32) int

func vectorScan(scan scanFunc) func(*task, []uint32, int) int {
	return func(t *task, words []uint32, batches int) int {
		return scan(t.memory, &t.addends, &t.places, &t.start, &t.middle, words,
			t.rows, int(t.left), int(t.right), t.first, t.last, batches, t.want)
	}
}
