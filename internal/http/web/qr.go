package web

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quietZone is the white margin that scanners need around a code, in modules (ISO/IEC 18004 section
// 9.1).
const quietZone = 4

// qrCode is a QR code as one black SVG path on a white square. It needs neither a style nor an
// image, so the pages' policy allows it.
type qrCode struct {
	// Size is the side of the square in modules, including the margin.
	Size int
	// Path is the black part, as the attribute d of an SVG path.
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
				fmt.Fprintf(&d, "M%d %dh%dv1h-%dz", from+quietZone, y+quietZone, x-from, x-from)
			}
		}
	}
	return &qrCode{Size: code.Size + 2*quietZone, Path: d.String()}, nil
}
