package local

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sebs-suite/sebs/services/local/host"
)

// meters count what the platform does. Function names are no labels: there may be any number of them.
type meters struct {
	invocations *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	init        prometheus.Histogram
}

func newMeters(r prometheus.Registerer) (*meters, error) {
	buckets := prometheus.ExponentialBuckets(0.0005, 2, 20)
	m := &meters{
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sebs", Subsystem: "local", Name: "invocations_total",
			Help: "Invocations that functions of the local platform have taken, by kind of failure (empty: none) and cold start.",
		}, []string{"failure", "cold"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "sebs", Subsystem: "local", Name: "invocation_duration_seconds",
			Help: "How long functions ran, initialisation left out.", Buckets: buckets,
		}, []string{"cold"}),
		init: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "sebs", Subsystem: "local", Name: "sandbox_init_duration_seconds",
			Help: "How long sandboxes took from their start until the runtime asked for work.", Buckets: buckets,
		}),
	}
	for _, c := range []prometheus.Collector{m.invocations, m.duration, m.init} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// observe counts one invocation.
func (m *meters) observe(r host.Record) {
	cold := strconv.FormatBool(r.Cold)
	m.invocations.WithLabelValues(r.Failure, cold).Inc()
	m.duration.WithLabelValues(cold).Observe(r.Duration.Seconds())
	if r.Cold {
		m.init.Observe(r.Init.Seconds())
	}
}
