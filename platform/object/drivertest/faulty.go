package drivertest

import (
	"io"
	"net/http"
	"sync/atomic"
)

// Faulty is a transport that fails the first requests that match.
type Faulty struct {
	// Next carries the requests that do not fail.
	Next http.RoundTripper
	// Match tells which requests may fail, and Fail what becomes of one.
	Match func(*http.Request) bool
	Fail  func(*http.Request) (*http.Response, error)
	// Left is how many requests are still to fail, Seen how many have matched.
	Left, Seen atomic.Int32
}

// RoundTrip implements http.RoundTripper.
func (f *Faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.Match(r) {
		f.Seen.Add(1)
		if f.Left.Add(-1) >= 0 {
			if r.Body != nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
			return f.Fail(r)
		}
	}
	return f.Next.RoundTrip(r)
}
