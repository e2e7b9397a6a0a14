package trace

import (
	"strings"
	"testing"
)

func TestParseParent(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, row := range []struct {
		claim, header string
		ok, sampled   bool
	}{
		{"sampled", "00-" + trace + "-" + span + "-01", true, true},
		{"not sampled", "00-" + trace + "-" + span + "-00", true, false},
		{"other flags are ignored", "00-" + trace + "-" + span + "-fe", true, false},
		{"a later version may have more", "01-" + trace + "-" + span + "-01-what", true, true},
		{"a later version with another separator", "01-" + trace + "-" + span + "-01.what", false, false},
		{"this version must not have more", "00-" + trace + "-" + span + "-01-what", false, false},
		{"version ff", "ff-" + trace + "-" + span + "-01", false, false},
		{"capitals", "00-" + strings.ToUpper(trace) + "-" + span + "-01", false, false},
		{"a trace of zeros", "00-" + strings.Repeat("0", 32) + "-" + span + "-01", false, false},
		{"a span of zeros", "00-" + trace + "-" + strings.Repeat("0", 16) + "-01", false, false},
		{"a hyphen in an ID", "00-0af7651916cd43dd8448eb211c80319--" + span + "-01", false, false},
		{"short", "00-" + trace + "-" + span + "-0", false, false},
		{"empty", "", false, false},
	} {
		p, ok := ParseParent(row.header)
		if ok != row.ok || ok && p.Sampled != row.sampled {
			t.Errorf("%s: %+v, %v", row.claim, p, ok)
		}
	}
}

func TestSampling(t *testing.T) {
	parent, _ := ParseParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	quiet := parent
	quiet.Sampled = false
	const tries = 20000
	for _, row := range []struct {
		claim     string
		sample    float64
		parent    Parent
		low, high int
	}{
		{"all", 1, Parent{}, tries, tries},
		{"none", 0, Parent{}, 0, 0},
		{"a tenth", 0.1, Parent{}, tries / 12, tries / 8},
		{"a parent that is recorded", 0, parent, tries, tries},
		{"a parent that is not", 1, quiet, 0, 0},
	} {
		n := 0
		tracer := New(row.sample, func(*Span) { n++ })
		for range tries {
			_, span := tracer.Begin(t.Context(), "x", Server, row.parent)
			span.Finish(false)
		}
		if n < row.low || n > row.high {
			t.Errorf("%s: %d of %d were recorded", row.claim, n, tries)
		}
	}
}

func TestParts(t *testing.T) {
	var spans []*Span
	tracer := New(1, func(s *Span) { spans = append(spans, s) })
	ctx, root := tracer.Begin(t.Context(), "root", Server, Parent{})
	_, part := Start(ctx, "part")
	part.Set("empty", "")
	part.Set("word", "x")
	part.SetInt("n", 3)
	part.Finish(true)
	root.Part("earlier", root.Start, root.Start)
	root.Finish(false)
	if len(spans) != 3 {
		t.Fatalf("%d spans", len(spans))
	}
	for _, s := range spans[:2] {
		if s.Trace != root.Trace || s.Parent != root.ID || s.ID == root.ID || s.ID == [8]byte{} {
			t.Errorf("%s is not a part of root: %+v", s.Name, s)
		}
	}
	if !part.Failed || len(part.Attrs) != 2 || root.Parent != [8]byte{} || root.Failed {
		t.Errorf("%+v\n%+v", part, root)
	}
}

// Without a tracer, and for requests that are not recorded, tracing allocates no memory.
func TestUnrecordedRequestsAllocateNothing(t *testing.T) {
	for name, tracer := range map[string]*Tracer{"none": nil, "not sampled": New(0, nil)} {
		n := testing.AllocsPerRun(100, func() {
			ctx, span := tracer.Begin(t.Context(), "x", Server, Parent{})
			span.Set("key", "value")
			_, part := Start(ctx, "part")
			part.SetInt("key", 1)
			part.Finish(false)
			span.Finish(false)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkOff measures the cost of a request with four parts when nothing is recorded.
func BenchmarkOff(b *testing.B) {
	for name, tracer := range map[string]*Tracer{"none": nil, "not sampled": New(0, nil)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ctx, span := tracer.Begin(b.Context(), "x", Server, Parent{})
				for range 4 {
					_, part := Start(ctx, "part")
					part.Finish(false)
				}
				span.Finish(false)
			}
		})
	}
}
