package serve

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are what Prometheus reads. Durations are in seconds.
type Metrics struct {
	Registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	waited   *prometheus.HistogramVec
	ran      *prometheus.HistogramVec
	rows     *prometheus.HistogramVec
	reloads  *prometheus.CounterVec
}

// NewMetrics registers everything, the Go runtime's and the process's own included.
func NewMetrics() *Metrics {
	// From 100 µs to 13 s, so that one bucket is a factor of two.
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 18)
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(
			prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inferd_requests_total", Help: "Requests for inference, by what became of them.",
		}, []string{"model", "protocol", "code"}),
		duration: histogram("inferd_request_duration_seconds",
			"From a request's first byte to its answer's last.", seconds, "model", "protocol"),
		waited: histogram("inferd_queue_duration_seconds",
			"How long requests waited until their batch began.", seconds, "model"),
		ran: histogram("inferd_model_duration_seconds",
			"How long a batch took in the runtime.", seconds, "model"),
		rows: histogram("inferd_batch_rows",
			"Rows of the batches that ran.", prometheus.ExponentialBuckets(1, 2, 9), "model"),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inferd_reloads_total", Help: "Times that a model was loaded, by how it ended.",
		}, []string{"model", "result"}),
	}
	m.Registry.MustRegister(m.requests, m.duration, m.waited, m.ran, m.rows, m.reloads,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Watch shows how many requests wait for each model.
func (m *Metrics) Watch(slots []*Slot) {
	for _, slot := range slots {
		m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "inferd_queue_requests", Help: "Requests that wait for their batch.",
			ConstLabels: prometheus.Labels{"model": slot.Name},
		}, func() float64 { return float64(slot.Waiting()) }))
	}
}

// Reloaded counts a loading of a model.
func (m *Metrics) Reloaded(model string, err error) {
	result := "loaded"
	if err != nil {
		result = "failed"
	}
	m.reloads.WithLabelValues(model, result).Inc()
}

func (m *Metrics) answered(model, protocol string, code int, took time.Duration) {
	m.requests.WithLabelValues(model, protocol, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(model, protocol).Observe(took.Seconds())
}

// Batches is what a model's batcher tells.
func (m *Metrics) Batches(model string) *BatchMetrics {
	return &BatchMetrics{
		waited: m.waited.WithLabelValues(model),
		ran:    m.ran.WithLabelValues(model),
		rows:   m.rows.WithLabelValues(model),
	}
}

// BatchMetrics is the [noble-runbooks/inferd/internal/batch.Watcher] of one model.
type BatchMetrics struct{ waited, ran, rows prometheus.Observer }

// Waited is called for each request when its batch begins, or when it is seen that the request has given up.
func (b *BatchMetrics) Waited(d time.Duration) { b.waited.Observe(d.Seconds()) }

// Ran is called for each batch.
func (b *BatchMetrics) Ran(rows int, took time.Duration) {
	b.rows.Observe(float64(rows))
	b.ran.Observe(took.Seconds())
}
