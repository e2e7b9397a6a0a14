// Package trace records what a request did and how long each part took, as OpenTelemetry spans.
//
// A Tracer samples: it records a fraction of the requests and of the background work, each with
// all of its parts. A span that is not recorded is nil. All methods of a nil Span or a nil
// Tracer do nothing and do not allocate. So without a Tracer, tracing costs one comparison per
// span.
//
// Spans must not contain personal data: attributes are words from the program, numbers, and the
// hosts of tenants. Paths of requests, user names and addresses must not be set.
//
// The package sends nothing: a finished span goes to the function that New was given. Package otlp sends it.
package trace

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"time"
)

// Kind is the kind of a span. The numbers are those of OTLP.
type Kind int

// The kinds of spans.
const (
	Internal Kind = 1
	Server   Kind = 2 // the handling of a request
	Client   Kind = 3 // a request to another server
)

// Parent is the span, of this or another program, that is the parent of a new span. The zero Parent means none.
type Parent struct {
	Trace [16]byte
	Span  [8]byte
	// Sampled means that the parent is recorded.
	Sampled bool
}

// ParseParent parses the traceparent header of W3C Trace Context. It returns false for anything
// that the recommendation calls invalid.
func ParseParent(header string) (p Parent, ok bool) {
	// version "-" trace-id "-" parent-id "-" trace-flags, of 2, 32, 16 and 2 lower-case hexadecimal digits
	const size = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(header) < size || header[2] != '-' || header[35] != '-' || header[52] != '-' {
		return Parent{}, false
	}
	for i := range size {
		c := header[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Parent{}, false
		}
	}
	if version := header[:2]; version == "ff" || version == "00" && len(header) != size ||
		len(header) > size && header[size] != '-' {
		return Parent{}, false
	}
	var flags [1]byte
	for _, part := range []struct {
		to   []byte
		text string
	}{{p.Trace[:], header[3:35]}, {p.Span[:], header[36:52]}, {flags[:], header[53:55]}} {
		if _, err := hex.Decode(part.to, []byte(part.text)); err != nil {
			return Parent{}, false
		}
	}
	p.Sampled = flags[0]&1 != 0
	return p, p.Trace != [16]byte{} && p.Span != [8]byte{}
}

// Attr is an attribute of a span: a word or a number.
type Attr struct {
	Key   string
	Text  string
	Int   int64
	IsInt bool
}

// Span is a part of a trace that is being recorded. It must be used by one goroutine.
type Span struct {
	Trace      [16]byte
	ID, Parent [8]byte
	Name       string
	Kind       Kind
	Start, End time.Time
	Attrs      []Attr
	Failed     bool

	tracer *Tracer
}

// Tracer makes spans. It is safe for concurrent use. A nil Tracer makes none.
type Tracer struct {
	threshold uint64 // traces whose ID is below it are sampled
	export    func(*Span)
}

// New returns a Tracer that samples a fraction of all traces, from 0 to 1. export is called
// with each finished span; it must not block, and owns the span.
func New(sample float64, export func(*Span)) *Tracer {
	t := &Tracer{export: export}
	switch {
	case sample >= 1:
		t.threshold = math.MaxUint64
	case sample > 0:
		t.threshold = uint64(sample * math.MaxUint64)
	}
	return t
}

// Begin begins a trace, or continues the trace of a parent, which decides whether it is
// recorded. The returned context is for the parts of the span.
func (t *Tracer) Begin(ctx context.Context, name string, kind Kind, p Parent) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	if p.Trace == [16]byte{} {
		low := rand.Uint64()
		p.Sampled = low < t.threshold || t.threshold == math.MaxUint64
		binary.BigEndian.PutUint64(p.Trace[:8], rand.Uint64())
		binary.BigEndian.PutUint64(p.Trace[8:], low|1) // never zero
	}
	if !p.Sampled {
		return ctx, nil
	}
	s := &Span{Trace: p.Trace, Parent: p.Span, Name: name, Kind: kind, tracer: t}
	return s.begin(ctx)
}

func (s *Span) begin(ctx context.Context) (context.Context, *Span) {
	binary.BigEndian.PutUint64(s.ID[:], rand.Uint64()|1)
	s.Start = time.Now()
	return context.WithValue(ctx, key{}, s), s
}

type key struct{}

// Start begins a part of the span in ctx. If ctx has no span, it returns nil.
func Start(ctx context.Context, name string) (context.Context, *Span) {
	parent, _ := ctx.Value(key{}).(*Span)
	if parent == nil {
		return ctx, nil
	}
	s := &Span{Trace: parent.Trace, Parent: parent.ID, Name: name, Kind: Internal, tracer: parent.tracer}
	return s.begin(ctx)
}

// Set sets an attribute to a word.
func (s *Span) Set(key, value string) {
	if s != nil && value != "" {
		s.Attrs = append(s.Attrs, Attr{Key: key, Text: value})
	}
}

// SetInt sets an attribute to a number.
func (s *Span) SetInt(key string, value int64) {
	if s != nil {
		s.Attrs = append(s.Attrs, Attr{Key: key, Int: value, IsInt: true})
	}
}

// Finish ends the span, which must not be used afterwards.
func (s *Span) Finish(failed bool) {
	if s == nil {
		return
	}
	s.End, s.Failed = time.Now(), failed
	s.tracer.export(s)
}

// Part adds a part that has already ended.
func (s *Span) Part(name string, start, end time.Time) {
	if s == nil {
		return
	}
	part := &Span{Trace: s.Trace, Parent: s.ID, Name: name, Kind: Internal, Start: start, End: end}
	binary.BigEndian.PutUint64(part.ID[:], rand.Uint64()|1)
	s.tracer.export(part)
}
