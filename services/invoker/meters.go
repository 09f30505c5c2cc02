package invoker

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// meters are the figures that the invoker tells about itself.
type meters struct {
	calls    *prometheus.CounterVec
	inFlight prometheus.Gauge
}

func newMeters(registry prometheus.Registerer) *meters {
	m := &meters{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sebs_invoker_calls_total", Help: "Calls of functions, by trigger and by class of failure.",
		}, []string{"trigger", "failure"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sebs_invoker_in_flight", Help: "Calls that are being made.",
		}),
	}
	if registry != nil {
		registry.MustRegister(m.calls, m.inFlight)
	}
	return m
}

func (m *meters) count(record *typev1.InvocationRecord) {
	failure := "none"
	if record.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED {
		failure = strings.ToLower(strings.TrimPrefix(record.GetErrorClass().String(), "ERROR_CLASS_"))
	}
	m.calls.WithLabelValues(triggerWord(record.GetTrigger()), failure).Inc()
}

func triggerWord(kind typev1.TriggerType) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "TRIGGER_TYPE_"))
}
