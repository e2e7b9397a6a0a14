package serve

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http/httpguts"

	"dialtone/internal/http/ops"
	"dialtone/internal/otlp"
	"dialtone/internal/regularfile"
	"dialtone/internal/trace"
)

// openTracer creates the tracer and the exporter of traces, if an endpoint is configured.
func (s *server) openTracer(node string) (err error) {
	c := s.Trace
	if c.Endpoint == "" {
		return nil
	}
	version, _ := buildOf(debug.ReadBuildInfo())
	resource := map[string]string{"service.name": "dialtone", "service.version": version}
	if node != "" {
		resource["service.instance.id"] = node
	}
	conf := otlp.Config{Endpoint: c.Endpoint, Resource: resource, Log: s.log, Now: time.Now}
	if c.HeaderFile != "" {
		conf.Header = func() (name, value string, err error) { return readHeader(c.HeaderFile) }
		if _, _, err := conf.Header(); err != nil {
			return err // at the start, not at the first trace
		}
	}
	if s.exporter, err = otlp.New(conf); err != nil {
		return fmt.Errorf("trace.endpoint: %w", err)
	}
	s.tracer = trace.New(c.Sample, s.exporter.Add)
	return nil
}

// readHeader reads a header from a file. Errors do not contain the content of the file, which is secret.
func readHeader(file string) (name, value string, err error) {
	text, err := regularfile.Read(file)
	if err != nil {
		return "", "", fmt.Errorf("trace.header_file: %w", err)
	}
	name, value, ok := strings.Cut(strings.TrimSpace(string(text)), ":")
	value = strings.TrimSpace(value)
	if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) || value == "" {
		return "", "", fmt.Errorf("trace.header_file: %s must contain one line such as "+
			`"Authorization: Bearer TOKEN"`, file)
	}
	return name, value, nil
}

// traceMetrics returns metrics of the spans that are sent.
func (s *server) traceMetrics() prometheus.Collector {
	return ops.NewCollector([]ops.Metric{{
		Name: "dialtone_trace_spans_total", Help: "Spans of traces since the start, by outcome.", Counter: true,
		Labels: []string{"outcome"},
	}}, func(_ context.Context, to *ops.Values) error {
		n := s.exporter.Counts()
		to.Set(0, float64(n.Sent), "sent")
		to.Set(0, float64(n.Dropped), "dropped")
		to.Set(0, float64(n.Failed), "failed")
		return nil
	})
}
