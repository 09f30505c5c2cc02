package statistics

import "math"

const (
	// mantissaBits is how finely a power of two is divided; the middle of a bucket is within 2^-11 of every value in it.
	mantissaBits  = 10
	subBuckets    = 1 << mantissaBits
	float64Bits   = 52
	exponents     = 1 << 11
	exponentShift = float64Bits - mantissaBits
)

// histogram counts values in buckets of constant relative width. Buckets of one power of two are allocated when first hit.
type histogram struct {
	zero     int64
	positive [exponents]*[subBuckets]int64
	negative map[int]*[subBuckets]int64
}

func (h *histogram) add(v float64, n int64) {
	if v == 0 {
		h.zero += n
		return
	}
	bits := math.Float64bits(math.Abs(v)) >> exponentShift
	exponent, sub := int(bits>>mantissaBits), bits&(subBuckets-1)
	h.buckets(exponent, v < 0)[sub] += n
}

func (h *histogram) buckets(exponent int, negative bool) *[subBuckets]int64 {
	if negative {
		if h.negative == nil {
			h.negative = make(map[int]*[subBuckets]int64)
		}
		b := h.negative[exponent]
		if b == nil {
			b = new([subBuckets]int64)
			h.negative[exponent] = b
		}
		return b
	}
	if h.positive[exponent] == nil {
		h.positive[exponent] = new([subBuckets]int64)
	}
	return h.positive[exponent]
}

func (h *histogram) merge(other *histogram) {
	h.zero += other.zero
	for exponent, b := range other.positive {
		if b != nil {
			into := h.buckets(exponent, false)
			for sub, n := range b {
				into[sub] += n
			}
		}
	}
	for exponent, b := range other.negative {
		into := h.buckets(exponent, true)
		for sub, n := range b {
			into[sub] += n
		}
	}
}

// at returns the middle of the bucket that holds the value of the given one-based rank.
func (h *histogram) at(rank int64) float64 {
	if len(h.negative) > 0 {
		for exponent := exponents - 1; exponent >= 0; exponent-- {
			b := h.negative[exponent]
			if b == nil {
				continue
			}
			for sub := subBuckets - 1; sub >= 0; sub-- {
				if rank -= b[sub]; rank <= 0 {
					return -middle(exponent, sub)
				}
			}
		}
	}
	if rank -= h.zero; rank <= 0 {
		return 0
	}
	last := 0.0
	for exponent, b := range h.positive {
		if b == nil {
			continue
		}
		for sub, n := range b {
			if n == 0 {
				continue
			}
			last = middle(exponent, sub)
			if rank -= n; rank <= 0 {
				return last
			}
		}
	}
	return last
}

func middle(exponent, sub int) float64 {
	low := uint64(exponent)<<float64Bits | uint64(sub)<<exponentShift
	return math.Float64frombits(low | 1<<(exponentShift-1))
}
