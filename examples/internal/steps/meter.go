package steps

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/upgrade"
)

// Figures are what a process has answered.
type Figures struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
	Micros   int64 `json:"us"` // of all requests together
}

// ErrorRate is the share of errors.
func (f Figures) ErrorRate() float64 {
	if f.Requests == 0 {
		return 0
	}
	return float64(f.Errors) / float64(f.Requests)
}

// Mean is how long a request took.
func (f Figures) Mean() time.Duration {
	if f.Requests == 0 {
		return 0
	}
	return time.Duration(f.Micros/f.Requests) * time.Microsecond
}

func (f Figures) since(b Figures) Figures {
	return Figures{f.Requests - b.Requests, f.Errors - b.Errors, f.Micros - b.Micros}
}

// Meter counts the requests of this process. Its zero value is ready.
type Meter struct{ requests, errors, micros atomic.Int64 }

// Figures returns the counts.
func (m *Meter) Figures() Figures {
	return Figures{m.requests.Load(), m.errors.Load(), m.micros.Load()}
}

// Record counts a request.
func (m *Meter) Record(took time.Duration, failed bool) {
	m.requests.Add(1)
	m.micros.Add(took.Microseconds())
	if failed {
		m.errors.Add(1)
	}
}

// Report publishes the figures of a candidate until it is none any more, or ctx ends.
func (m *Meter) Report(ctx context.Context, up *upgrade.Upgrader) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for up.Status().State == "candidate" {
		if b, err := json.Marshal(m.Figures()); err == nil {
			_ = up.Publish(channel, b) // the next one will do
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Middleware counts what next answers: an error is a status of 500 or more, or a panic. What takes its connection over is
// not counted.
func (m *Meter) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" || strings.HasSuffix(r.URL.Path, "z") { // a probe says nothing
			next.ServeHTTP(w, r)
			return
		}
		began, sw := time.Now(), &statusWriter{ResponseWriter: w, status: http.StatusOK}
		panicked := true
		defer func() { m.Record(time.Since(began), panicked || sw.status >= http.StatusInternalServerError) }()
		next.ServeHTTP(sw, r)
		panicked = false
	})
}

// statusWriter notes the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap gives the original to http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
