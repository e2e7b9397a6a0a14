package tenant

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"dialtone/internal/fault"
)

// DefaultAccent is the accent of a tenant that has not chosen one.
const DefaultAccent = "#0b6b57"

// minContrast is the contrast that text needs (WCAG 2.2, success criterion 1.4.3).
const minContrast = 4.5

// Shades are an accent's colours on pages of one brightness, each as #rrggbb.
type Shades struct {
	// Accent is for links, and for areas such as buttons. OnAccent is for text on such areas.
	Accent, OnAccent string
	// Strong is the accent of an element under the pointer.
	Strong string
	// Tint is the page's background with a trace of the accent.
	Tint string
}

// Palette has the shades of an accent for light pages and for dark ones.
type Palette struct{ Light, Dark Shades }

// Palette returns the colours of the tenant's accent. On a light page the accent is made as
// dark as text needs, and on a dark page as light; its hue stays the same. So the accent itself
// is used if it has enough contrast, and a similar colour otherwise.
func (s Settings) Palette() Palette {
	text := cmp.Or(s.Accent, DefaultAccent)
	if p, ok := palettes.Load(text); ok {
		return p.(Palette)
	}
	accent := parseColour(text)
	p := Palette{
		Light: lightPage.shades(accent),
		Dark:  darkPage.shades(accent),
	}
	palettes.Store(text, p)
	return p
}

// palettes caches the Palette of each accent that was used. Pages and messages need it, and the
// number of accents is small.
var palettes sync.Map

// colour is a colour of sRGB. Each part is a whole number from 0 to 255.
type colour [3]float64

var (
	black = colour{}
	white = colour{255, 255, 255}
)

// surface describes the pages of one brightness, whose colours are in the style sheet of the site.
type surface struct {
	backgrounds []colour
	// card is the background that a tint is mixed from, and trace is the proportion of the accent in it.
	card  colour
	trace float64
	// far is the colour towards which an accent with too little contrast is moved. onAccent is
	// the colour of text on an accent.
	far, onAccent colour
}

var (
	lightPage = surface{
		backgrounds: []colour{white, parseColour("#f3f6f4")},
		card:        white,
		trace:       0.1,
		far:         black,
		onAccent:    white,
	}
	darkPage = surface{
		backgrounds: []colour{parseColour("#0e1312"), parseColour("#161d1b")},
		card:        parseColour("#161d1b"),
		trace:       0.16,
		far:         white,
		onAccent:    parseColour("#0e1312"),
	}
)

// shades moves an accent towards far until text in that colour is readable on all backgrounds,
// and text on it is readable too.
func (p surface) shades(accent colour) Shades {
	const steps = 100
	for i := 0; ; i++ {
		c := accent.mix(p.far, float64(i)/steps)
		tint := p.card.mix(c, p.trace)
		lowest := min(contrast(c, tint), contrast(c, p.onAccent))
		for _, background := range p.backgrounds {
			lowest = min(lowest, contrast(c, background))
		}
		if lowest >= minContrast || i == steps {
			return Shades{c.String(), p.onAccent.String(), c.mix(p.far, 0.25).String(), tint.String()}
		}
	}
}

// mix returns a colour between two colours, rounded to whole numbers.
func (c colour) mix(other colour, part float64) (mixed colour) {
	for i := range c {
		mixed[i] = math.Round(c[i] + (other[i]-c[i])*part)
	}
	return mixed
}

func (c colour) String() string {
	return fmt.Sprintf("#%02x%02x%02x", int(c[0]), int(c[1]), int(c[2]))
}

// linear maps each value of a colour component to its linear value (WCAG 2.2, relative
// luminance). A Palette needs hundreds of them, and math.Pow is slow.
var linear = func() (table [256]float64) {
	for i := range table {
		if part := float64(i) / 255; part <= 0.04045 {
			table[i] = part / 12.92
		} else {
			table[i] = math.Pow((part+0.055)/1.055, 2.4)
		}
	}
	return table
}()

// luminance is the relative luminance of WCAG 2.2.
func (c colour) luminance() float64 {
	return 0.2126*linear[int(c[0])] + 0.7152*linear[int(c[1])] + 0.0722*linear[int(c[2])]
}

// contrast is the contrast ratio of WCAG 2.2, from 1 to 21.
func contrast(a, b colour) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// parseColour returns a colour that checkAccent has accepted.
func parseColour(text string) (c colour) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "#"), 16, 24)
	if err != nil {
		panic("tenant: not a colour: " + text)
	}
	return colour{float64(n >> 16), float64(n >> 8 & 0xff), float64(n & 0xff)}
}

// checkAccent returns a colour in the form #rrggbb.
func checkAccent(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	digits := strings.ToLower(strings.TrimPrefix(text, "#"))
	if len(digits) != 6 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", fault.Field("accent", "%q is not a colour of the form #rrggbb, such as #0b6b57", text)
	}
	return "#" + digits, nil
}
