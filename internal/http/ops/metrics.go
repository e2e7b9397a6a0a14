package ops

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns a registry with the metrics of the process and of the Go runtime. Other
// metrics are registered there too; there is no global registry, so tests do not share one.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// exposition returns the handler of /metrics. It serves one request at a time. Metrics that cannot
// be read are left out.
func exposition(metrics prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 1,
		Timeout:             probeTimeout,
	})
}

// Metric describes a metric.
type Metric struct {
	Name, Help string
	// Counter is set for a counter. Otherwise the metric is a gauge.
	Counter bool
	// Label is the name of its label, or empty.
	Label string
}

// Reader reads the current values. It calls set for each, with the index of the metric and the
// value of its label. It leaves out values that it cannot read, and returns the error.
type Reader func(ctx context.Context, set func(metric int, label string, value float64)) error

// NewCollector returns a collector that calls read for every scrape.
func NewCollector(metrics []Metric, read Reader) prometheus.Collector {
	c := &collector{read: read}
	for _, m := range metrics {
		var labels []string
		if m.Label != "" {
			labels = []string{m.Label}
		}
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		c.kinds = append(c.kinds, kind)
		c.labelled = append(c.labelled, m.Label != "")
		c.descs = append(c.descs, prometheus.NewDesc(m.Name, m.Help, labels, nil))
	}
	return c
}

type collector struct {
	descs    []*prometheus.Desc
	kinds    []prometheus.ValueType
	labelled []bool
	read     Reader
}

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

func (c *collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
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
