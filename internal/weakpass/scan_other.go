//go:build !amd64

package weakpass

// kernels has the portable one alone: no other architecture has a kernel of its own.
var kernels = []*kernel{newKernel("portable", "", 1, scanPortable)}
