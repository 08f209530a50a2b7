//go:build linux

package cost

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A script is a connection in memory. Its client sends the same request again as soon as the answer has come, a number of times.
// net/http reads from a script in the same way as from a socket: while a handler runs, a Read of a single byte waits until a
// deadline in the past interrupts the Read.
type script struct {
	net.Conn // nil: no other method may be called
	done     chan struct{}

	mu     sync.Mutex
	change sync.Cond // the Cond of mu
	left   int       // how many requests are still to be sent
	late   bool      // the read deadline has passed
}

const asked = "GET / HTTP/1.1\r\nHost: cost\r\n\r\n"

func newScript(requests int) *script {
	s := &script{left: requests, done: make(chan struct{})}
	s.change.L = &s.mu
	return s
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(p) == 1 {
		for !s.late {
			s.change.Wait()
		}
		return 0, os.ErrDeadlineExceeded
	}
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	return copy(p, asked), nil
}

func (s *script) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late = !t.IsZero() && t.Before(time.Now()); s.late {
		s.change.Broadcast()
	}
	return nil
}

func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) Close() error                     { close(s.done); return nil }

// scripts is a listener. Its Accept returns what is sent to the channel.
type scripts chan net.Conn

func (l scripts) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l scripts) Addr() net.Addr { return &net.TCPAddr{} }
func (l scripts) Close() error   { return nil }

// A round is the cost of a request, the mean of a connection.
type round struct{ ns, allocs float64 }

// serve serves a script, and returns the cost of a request.
func (l scripts) serve(requests int) round {
	var before, after runtime.MemStats
	s := newScript(requests)
	runtime.ReadMemStats(&before)
	began := cpuTime()
	l <- s
	<-s.done
	took := cpuTime() - began
	runtime.ReadMemStats(&after)
	n := float64(requests)
	return round{float64(took.Nanoseconds()) / n, float64(after.Mallocs-before.Mallocs) / n}
}

// A request allocates nothing more than with net/http. The time that drain adds is shown only: it is CPU time of the process, in
// short rounds that take turns, and still depends on what else the machine does.
func TestRequestsAllocateNothingMoreThanWithoutDrain(t *testing.T) {
	requests, rounds := 200, 201
	if *long {
		rounds = 5001
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // with one thread at a time, no time goes into waking another
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	plain, drained := make(scripts), make(scripts)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = (&http.Server{Handler: answer}).Serve(plain) }) // ends when the channel is closed
	running.Go(func() {                                                     // ends with ctx
		if err := drain.NewServer(&http.Server{Handler: answer}, drain.Options{}).Serve(ctx, drained); err != nil {
			t.Error(err)
		}
	})
	var without, with, more []round
	for range rounds {
		p, d := plain.serve(requests), drained.serve(requests)
		without, with, more = append(without, p), append(with, d), append(more, round{d.ns - p.ns, d.allocs - p.allocs})
	}
	close(plain)
	stop()
	close(drained)
	running.Wait()
	var table strings.Builder
	fmt.Fprintf(&table, "a request in memory, %d rounds of %d requests\n", rounds, requests)
	fmt.Fprintf(&table, "%-14s %10s %10s %14s\n", "", "median ns", "least ns", "median allocs")
	for _, row := range []struct {
		name string
		of   []round
	}{{"net/http", without}, {"drain", with}} {
		median, least := summary(row.of, func(r round) float64 { return r.ns })
		allocs, _ := summary(row.of, func(r round) float64 { return r.allocs })
		fmt.Fprintf(&table, "%-14s %10.0f %10.0f %14.3f\n", row.name, median, least, allocs)
	}
	added, _ := summary(more, func(r round) float64 { return r.ns })
	fmt.Fprintf(&table, "drain adds %.0f ns, the median of the differences\n", added)
	t.Log(table.String())
	if allocs, _ := summary(more, func(r round) float64 { return r.allocs }); allocs > maxAllocs {
		t.Errorf("drain adds %.3f allocations to a request", allocs)
	}
}

// summary returns the median and the least of a value of all rounds.
func summary[T any](all []T, value func(T) float64) (median, least float64) {
	values := make([]float64, len(all))
	for i := range all {
		values[i] = value(all[i])
	}
	slices.Sort(values)
	return values[len(values)/2], values[0]
}
