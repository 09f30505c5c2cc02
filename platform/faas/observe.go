package faas

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// newMeter registers the histogram of driver calls, or takes the one that another
// platform of the process registered.
func newMeter(registry prometheus.Registerer) (*prometheus.HistogramVec, error) {
	meter := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "sebs_faas_call_seconds",
		Help:    "Time of single calls of a platform's interface, by platform, operation and gRPC code of the answer.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
	}, []string{"platform", "operation", "code"})
	if registry == nil {
		return meter, nil
	}
	var taken prometheus.AlreadyRegisteredError
	switch err := registry.Register(meter); {
	case errors.As(err, &taken):
		if existing, ok := taken.ExistingCollector.(*prometheus.HistogramVec); ok {
			return existing, nil
		}
		return nil, fmt.Errorf("register the metrics of platforms: %w", err)
	case err != nil:
		return nil, fmt.Errorf("register the metrics of platforms: %w", err)
	}
	return meter, nil
}

// measure notes one call. Its label values are few: names of functions are none.
func (p *Platform) measure(operation string, began time.Time, err error) {
	code := codes.OK
	if err != nil {
		code = p.driver.Classify(err).Code
	}
	p.meter.WithLabelValues(p.name, operation, code.String()).Observe(time.Since(began).Seconds())
}
