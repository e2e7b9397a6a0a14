package dictionary

import "golang.org/x/sys/cpu"

// kernels are all there are, fastest first.
var kernels = []*kernel{
	newKernel("AVX-512", lacking(cpu.X86.HasAVX512F, "AVX512F"), lanesAVX512, scanAVX512),
	newKernel("AVX2", lacking(cpu.X86.HasAVX2, "AVX2"), lanesAVX2, scanAVX2),
	newKernel("portable", "", 1, scanPortable),
}

// The lanes of a vector, times the vectors that gen/main.go puts side by side.
const (
	lanesAVX512 = 16 * 6
	lanesAVX2   = 8 * 3
)

func lacking(has bool, feature string) string {
	if has {
		return ""
	}
	return feature
}

//go:noescape
func scanAVX512(t *task, words []uint32, batches int) int

//go:noescape
func scanAVX2(t *task, words []uint32, batches int) int
