package ratelimit

import "time"

// Limit is what one bucket allows.
type Limit struct {
	// PerSecond is how many requests a second are sent in the long run; 0 or less means no bound.
	PerSecond float64
	// Burst is how many requests may come at once after a pause, at least 2.
	Burst int
}

// share returns the limit of a process that is on its own.
func (l Limit) share() Limit {
	return Limit{PerSecond: l.PerSecond * aloneShare, Burst: max(2, int(float64(l.Burst)*aloneShare))}
}

// interval is the time between two tokens.
func (l Limit) interval() time.Duration { return time.Duration(float64(time.Second) / l.PerSecond) }

// grace is how long after its time a token can be used. Half of the burst is for tokens that are used late, half for those
// that are handed out at once.
func (l Limit) grace() time.Duration { return time.Duration(l.Burst/2) * l.interval() }

// take hands out up to n tokens of a bucket whose tokens are handed out until the given time. It returns the time at which
// each of them may be used, in rising order, and the bucket's new time. A bucket that is ahead of now by more than the
// burst hands out nothing beyond the horizon: slots is empty then, and until is as it was.
//
// It is the generic cell rate algorithm (ITU-T I.371): a bucket in use is one number.
func (l Limit) take(until, now time.Time, n int) (slots []time.Time, _ time.Time) {
	interval := l.interval()
	ahead := time.Duration(l.Burst-l.Burst/2) * interval
	if until.Before(now) {
		until = now
	}
	for range n {
		next := until.Add(interval)
		slot := next.Add(-ahead)
		if slot.Before(now) {
			slot = now
		}
		if slot.After(now.Add(horizon)) {
			break
		}
		slots, until = append(slots, slot), next
	}
	return slots, until
}
