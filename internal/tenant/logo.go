package tenant

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io"
	"strings"

	"dialtone/internal/fault"
)

// MaxLogo is the maximum size of a logo, in bytes.
const MaxLogo = 64 << 10

// maxLogoSide is the maximum width and height of a logo, in pixels.
const maxLogoSide = 2048

// Logo is a picture for the pages of a tenant. The zero value means no logo. A Logo is immutable.
type Logo struct {
	// Type is the picture's media type: that of PNG, JPEG, WebP or SVG.
	Type string
	Data []byte
}

// NewLogo returns the logo with a file's content. It fails with fault.Invalid if the content is not
// one of the four kinds of picture, or is an SVG with more than shapes and text.
func NewLogo(data []byte) (Logo, error) {
	wrong := func(format string, args ...any) (Logo, error) {
		return Logo{}, fault.Field("logo", "the logo "+format, args...)
	}
	if len(data) > MaxLogo {
		return wrong("is larger than %d KiB; make the picture smaller: pages show it %s", MaxLogo>>10,
			"about 32 pixels high")
	}
	width, height := 1, 1
	l := Logo{Data: data}
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		l.Type = "image/png"
		c, err := png.DecodeConfig(bytes.NewReader(data))
		if err != nil {
			return wrong("is not a readable PNG file: %v", err)
		}
		width, height = c.Width, c.Height
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		l.Type = "image/jpeg"
		c, err := jpeg.DecodeConfig(bytes.NewReader(data))
		if err != nil {
			return wrong("is not a readable JPEG file: %v", err)
		}
		width, height = c.Width, c.Height
	case len(data) > 16 && string(data[:4]) == "RIFF" && string(data[8:15]) == "WEBPVP8":
		l.Type = "image/webp"
	default:
		l.Type = "image/svg+xml"
		if err := checkSVG(data); err != nil {
			return wrong("is not a PNG, JPEG, WebP or SVG file that can be used: %v", err)
		}
	}
	if width > maxLogoSide || height > maxLogoSide {
		return wrong("is %d by %d pixels; use at most %d by %d", width, height, maxLogoSide, maxLogoSide)
	}
	return l, nil
}

// checkSVG refuses an SVG that could run a script or load something. Browsers do neither for an
// SVG in an img element, and the site's headers forbid both if the file is opened directly;
// this check is defence in depth.
func checkSVG(data []byte) error {
	d := xml.NewDecoder(bytes.NewReader(data))
	root := true
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && !root {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is not XML: %w", err)
		}
		switch token := token.(type) {
		case xml.Directive:
			// The only directive that drawing programs write is a document type without entities.
			if !bytes.HasPrefix(token, []byte("DOCTYPE svg")) || bytes.ContainsAny(token, "[]") {
				return errors.New("it declares entities")
			}
		case xml.ProcInst:
			if token.Target != "xml" {
				return fmt.Errorf("it has the instruction <?%s", token.Target)
			}
		case xml.StartElement:
			if root && (token.Name.Local != "svg" || token.Name.Space != "http://www.w3.org/2000/svg") {
				return errors.New("its outermost element is not <svg xmlns=\"http://www.w3.org/2000/svg\">")
			}
			root = false
			if err := checkSVGElement(token); err != nil {
				return err
			}
		case xml.CharData:
			if err := checkSVGText(string(token)); err != nil {
				return err
			}
		}
	}
}

// unsafeElements run scripts, load something, or contain HTML.
var unsafeElements = []string{
	"script", "foreignobject", "iframe", "object", "embed", "audio", "video", "handler", "listener",
	"set", "animate", "animatemotion", "animatetransform",
}

func checkSVGElement(e xml.StartElement) error {
	name := strings.ToLower(e.Name.Local)
	for _, unsafe := range unsafeElements {
		if name == unsafe {
			return fmt.Errorf("it has the element <%s>", e.Name.Local)
		}
	}
	for _, a := range e.Attr {
		attribute := strings.ToLower(a.Name.Local)
		switch {
		case strings.HasPrefix(attribute, "on"):
			return fmt.Errorf("it has the attribute %s", a.Name.Local)
		case a.Name.Space == "xmlns" || attribute == "xmlns":
		case attribute == "href" || attribute == "src" || attribute == "base":
			if !strings.HasPrefix(strings.TrimSpace(a.Value), "#") {
				return fmt.Errorf("it refers to %q", a.Value)
			}
		default:
			if err := checkSVGText(a.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSVGText refuses styles that load something. A reference to the file's own parts is url(#id).
func checkSVGText(text string) error {
	text = strings.ToLower(text)
	if strings.Contains(text, "@import") || strings.Contains(text, `\`) {
		return errors.New("its style loads another file, or has an escape")
	}
	for {
		_, rest, found := strings.Cut(text, "url(")
		if !found {
			return nil
		}
		if text = rest; !strings.HasPrefix(strings.TrimLeft(text, " '\"\t\r\n"), "#") {
			return errors.New("its style loads another file")
		}
	}
}
