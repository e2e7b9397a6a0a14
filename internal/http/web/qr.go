package web

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the white margin that scanners need around a code, in modules (ISO/IEC 18004 §9.1).
const quiet = 4

// qrCode is a QR code as a page draws it: one path of black on a white square. It needs neither a style nor an image, so the
// pages' policy stays as it is.
type qrCode struct {
	// Size is the side of the square, margin included, in modules.
	Size int
	// Path is the black part, as the d of an SVG path.
	Path string
}

func newQR(text string) (*qrCode, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("QR code: %w", err)
	}
	var d strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for code.Black(x, y) {
				x++
			}
			if x > from {
				fmt.Fprintf(&d, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
			}
		}
	}
	return &qrCode{Size: code.Size + 2*quiet, Path: d.String()}, nil
}
