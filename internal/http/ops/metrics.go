package ops

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry is a registry with what is known of the process and of Go. Whoever has something to count or to measure registers it
// there; nothing is registered anywhere else, so that a test has its own.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// exposition answers what a collector asks. One collector at a time is enough; what cannot be read is left out, and said.
func exposition(metrics prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 1, Timeout: patience})
}

// Metric is a number with a name.
type Metric struct {
	Name, Help string
	// Counts says that it only ever rises (a counter); it is a gauge otherwise.
	Counts bool
	// Label is the name of the one label, or empty.
	Label string
}

// Reader reads numbers when they are asked for: it calls set for each, with the number of the metric and the label's value. What it
// cannot read it leaves out, and returns why.
type Reader func(ctx context.Context, set func(metric int, label string, value float64)) error

// Readings makes a collector of a reader.
func Readings(metrics []Metric, read Reader) prometheus.Collector {
	c := &readings{read: read}
	for _, m := range metrics {
		var labels []string
		if m.Label != "" {
			labels = []string{m.Label}
		}
		kind := prometheus.GaugeValue
		if m.Counts {
			kind = prometheus.CounterValue
		}
		c.kinds = append(c.kinds, kind)
		c.labelled = append(c.labelled, m.Label != "")
		c.descs = append(c.descs, prometheus.NewDesc(m.Name, m.Help, labels, nil))
	}
	return c
}

type readings struct {
	descs    []*prometheus.Desc
	kinds    []prometheus.ValueType
	labelled []bool
	read     Reader
}

func (c *readings) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

func (c *readings) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := c.read(ctx, func(i int, label string, value float64) {
		var labels []string
		if c.labelled[i] {
			labels = []string{label}
		}
		to <- prometheus.MustNewConstMetric(c.descs[i], c.kinds[i], value, labels...)
	})
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.descs[0], err)
	}
}
