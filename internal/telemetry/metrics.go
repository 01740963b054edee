package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are all numbers of Takt. Every process has all of them; those of
// other processes stay at zero. Labels take few values: never an id, a name
// that users choose, or a raw path.
type Metrics struct {
	// Requests counts answered HTTP requests by route (its pattern, such as
	// /api/v1/runs/:id), method and status code.
	Requests *prometheus.CounterVec
	// RequestSeconds is the time from a request's arrival to the end of its
	// answer, by route.
	RequestSeconds *prometheus.HistogramVec

	// AttemptSeconds is how long attempts took on this worker, by job type and
	// how they ended.
	AttemptSeconds *prometheus.HistogramVec
	// StaleDispatches counts the dispatches this worker dropped since the step
	// had been dispatched anew, or had ended.
	StaleDispatches prometheus.Counter
	// SlotsUsed and SlotsTotal are this worker's slots.
	SlotsUsed, SlotsTotal prometheus.Gauge

	// FiresPublished counts the slots published to JetStream.
	FiresPublished prometheus.Counter
	// FireLatenessSeconds is the time from a slot's instant to the moment
	// JetStream had it.
	FireLatenessSeconds prometheus.Histogram
	// FiresDecided counts the decisions on fires, by decision: fired, late,
	// buffered, skipped, failed.
	FiresDecided *prometheus.CounterVec
	// LeasesHeld is the number of partitions or shards this process owns, by role:
	// partition or trigger.
	LeasesHeld *prometheus.GaugeVec

	// TimersFired counts the durable timers that came due, by kind.
	TimersFired *prometheus.CounterVec
	// Repairs counts what the reconciler mended, by what it was: sent (a dispatch
	// on its way), lost (an attempt whose worker vanished), parked (a step whose
	// worker came back), outbox, overdue, fire. It rises after crashes only.
	Repairs *prometheus.CounterVec
}

// latency buckets reach from 100 µs, below which nothing here happens, to 30 s.
var latency = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// NewRegistry returns a registry that has the numbers of the Go runtime and of
// the operating system's process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// NewMetrics returns the metrics, registered with r. It panics when r has them
// already.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		Requests:            counters("http_requests_total", "Answered HTTP requests.", "route", "method", "status"),
		RequestSeconds:      histograms("http_request_seconds", "Time from a request's arrival to the end of its answer.", "route"),
		AttemptSeconds:      histograms("attempt_seconds", "Duration of attempts on this worker.", "type", "state"),
		StaleDispatches:     counter("stale_dispatches_total", "Dispatches dropped as not the latest."),
		SlotsUsed:           gauge("worker_slots_used", "Slots of this worker that execute a step."),
		SlotsTotal:          gauge("worker_slots", "Slots of this worker."),
		FiresPublished:      counter("fires_published_total", "Slots published to JetStream."),
		FireLatenessSeconds: histogram("fire_lateness_seconds", "Time from a slot's instant to JetStream's acknowledgement."),
		FiresDecided:        counters("fires_decided_total", "Decisions on fires.", "decision"),
		LeasesHeld:          gauges("leases_held", "Partitions or shards owned.", "role"),
		TimersFired:         counters("timers_fired_total", "Durable timers that came due.", "kind"),
		Repairs:             counters("repairs_total", "What the reconciler mended.", "what"),
	}
	r.MustRegister(m.Requests, m.RequestSeconds, m.AttemptSeconds, m.StaleDispatches,
		m.SlotsUsed, m.SlotsTotal, m.FiresPublished, m.FireLatenessSeconds, m.FiresDecided, m.LeasesHeld,
		m.TimersFired, m.Repairs)
	begin(m.FiresDecided, "fired", "late", "buffered", "skipped", "failed")
	begin(m.Repairs, "sent", "lost", "parked", "outbox", "overdue", "fire")
	return m
}

// begin makes a counter's rows for values of its label, at zero. Prometheus sees a
// rise only between two scrapes of a row, so the first failure of a row that is born
// with it would raise no alert.
func begin(c *prometheus.CounterVec, values ...string) {
	for _, value := range values {
		c.WithLabelValues(value)
	}
}

// namespace begins the name of every metric.
const namespace = "takt"

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: latency})
}

func histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: latency}, labels)
}
