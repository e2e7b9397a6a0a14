package ops

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"dialtone/internal/metric"
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
	// Counter is true for a counter. Otherwise the metric is a gauge, or a histogram if the Reader
	// calls Histogram.
	Counter bool
	// Labels are the names of its labels.
	Labels []string
}

// Reader reads the current values and sets them. It omits values that it cannot read, and returns
// the error.
type Reader func(ctx context.Context, to *Values) error

// Values collects the values of one scrape. Its methods identify a metric by its index, followed by
// the values of its labels.
type Values struct {
	collector *collector
	to        chan<- prometheus.Metric
}

// Set sets a counter or a gauge.
func (v *Values) Set(i int, value float64, labels ...string) {
	c := v.collector
	v.to <- prometheus.MustNewConstMetric(c.descs[i], c.kinds[i], value, labels...)
}

// Histogram sets a histogram.
func (v *Values) Histogram(i int, s metric.Snapshot, labels ...string) {
	v.to <- prometheus.MustNewConstHistogram(v.collector.descs[i], s.Count, s.Sum, s.Buckets, labels...)
}

// NewCollector returns a collector that calls read for every scrape.
func NewCollector(metrics []Metric, read Reader) prometheus.Collector {
	c := &collector{read: read}
	for _, m := range metrics {
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		c.kinds = append(c.kinds, kind)
		c.descs = append(c.descs, prometheus.NewDesc(m.Name, m.Help, m.Labels, nil))
	}
	return c
}

type collector struct {
	descs []*prometheus.Desc
	kinds []prometheus.ValueType
	read  Reader
}

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

func (c *collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	if err := c.read(ctx, &Values{c, to}); err != nil {
		to <- prometheus.NewInvalidMetric(c.descs[0], err)
	}
}
