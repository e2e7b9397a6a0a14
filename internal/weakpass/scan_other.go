//go:build !amd64

package weakpass

// kernels contains only the portable kernel: other architectures have no vector kernel.
var kernels = []*kernel{newKernel("portable", "", 1, scanPortable)}
