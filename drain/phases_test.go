package drain_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// An operator takes a server out of a load balancer and brings it back. Meanwhile no request is refused.
func TestLameDuckIsTakenBack(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{})
	idle := s.dial()
	wantBody(t, idle.get("/"), "/", false)
	if err := s.Drain(); err != nil {
		t.Fatal(err)
	}
	if status, _ := probe(s); status != http.StatusServiceUnavailable || s.Status().Phase != drain.LameDuck {
		t.Errorf("readiness %d, phase %v", status, s.Status().Phase)
	}
	for _, c := range []*client{idle, s.dial()} {
		wantBody(t, c.get("/lame"), "/lame", true)
		c.closed()
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if status, _ := probe(s); status != http.StatusOK || s.Status().Phase != drain.Serving {
		t.Errorf("readiness %d, phase %v", status, s.Status().Phase)
	}
	c := s.dial()
	wantBody(t, c.get("/back"), "/back", false)
	c.Close()
	s.stop()
	if err := s.Resume(); !errors.Is(err, drain.ErrClosed) {
		t.Errorf("Resume = %v in the final drain", err)
	}
	if err := s.Drain(); !errors.Is(err, drain.ErrClosed) {
		t.Errorf("Drain = %v in the final drain", err)
	}
	s.clean()
}

// The time between Drain of an operator and the stop counts as Propagation.
func TestLameDuckShortensPropagation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(echo, drain.Options{Propagation: 10 * time.Second})
		b.Drain()
		time.Sleep(4 * time.Second)
		b.Drain() // again: it counts from the first
		time.Sleep(3 * time.Second)
		since := time.Now()
		b.end(nil)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		wantTime(t, "drained", time.Since(since), 3*time.Second)
	})
}

// An admin server goes on serving until the server of Options.After has drained. Telemetry is flushed in between (F16). Both
// drains share one Grace.
func TestServersDrainInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		var web *bubble
		web = newBubble(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-drain.FromContext(r.Context()).Begun()
			time.Sleep(7 * time.Second)
			order = append(order, "request")
		}), drain.Options{Flush: func(ctx context.Context) error {
			order = append(order, "flush in phase "+string(web.Status().Phase))
			if until, ok := ctx.Deadline(); !ok || time.Until(until) != 23*time.Second {
				t.Errorf("flush has until %v", until)
			}
			return nil
		}})
		adm := newBubble(echo, drain.Options{After: web.Server})
		nc := web.ln.dial()
		go io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		synctest.Wait()
		since := time.Now()
		adm.end(nil)
		web.end(nil)
		time.Sleep(5 * time.Second)
		c := adm.ln.dial()
		adm.get(t, c)
		if p := adm.Status().Phase; p != drain.Serving {
			t.Errorf("the admin server is in phase %v", p)
		}
		c.Close()
		newClientUnbound(nc).read()
		nc.Close()
		if err := <-web.done; err != nil {
			t.Error(err)
		}
		order = append(order, "admin")
		if err := <-adm.done; err != nil {
			t.Error(err)
		}
		wantTime(t, "all of it took", time.Since(since), 7*time.Second)
		if got := strings.Join(order, ", "); got != "request, flush in phase flushing, admin" {
			t.Errorf("order: %s", got)
		}
	})
}

// If the server of Options.After has used up its Grace, this server has a tenth of its own Grace.
func TestServersShareOneBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		web := newBubble(stuck, drain.Options{Grace: 10 * time.Second})
		adm := newBubble(stuck, drain.Options{Grace: 10 * time.Second, After: web.Server})
		for _, b := range []*bubble{web, adm} {
			nc := b.ln.dial()
			go io.Copy(io.Discard, nc)
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		}
		synctest.Wait()
		since := time.Now()
		adm.end(nil)
		web.end(nil)
		<-web.done
		<-adm.done
		wantTime(t, "all of it took", time.Since(since), 11*time.Second)
	})
}

// If the server of Options.After never drains, this server does not wait for ever.
func TestServersDoNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		adm := newBubble(echo, drain.Options{Grace: time.Second, After: drain.NewServer(nil, drain.Options{Grace: time.Second})})
		synctest.Wait()
		since := time.Now()
		adm.end(nil)
		<-adm.done
		wantTime(t, "drained", time.Since(since), 2*time.Second)
	})
}

// Serve returns the error of Flush, joined with other errors. Flush has time even if Grace has run out.
func TestFlushHasTimeAndItsErrorCounts(t *testing.T) {
	broken := errors.New("collector is away")
	s := serve(t, &http.Server{}, drain.Options{Grace: 100 * time.Millisecond, Flush: func(ctx context.Context) error {
		if ctx.Err() != nil {
			t.Error("it has no time")
		}
		return broken
	}})
	release := make(chan struct{})
	defer close(release)
	s.Go(t.Context(), "stuck", func(context.Context) { <-release })
	s.stop()
	var timeout *drain.TimeoutError
	if err := s.wait(); !errors.Is(err, broken) || !errors.As(err, &timeout) || !strings.Contains(err.Error(), "drain: flush: collector") {
		t.Errorf("Serve = %v", err)
	}
	r, ok := s.Report()
	if !ok || r.Err == "" || len(r.Left) != 1 || r.Left[0].Name != "stuck" || r.Handover || r.Took < 100*time.Millisecond {
		t.Errorf("report %+v, %v", r, ok)
	}
}

// A Report says how long each phase took. Before the end of the drain, ok is false.
func TestReportTellsThePhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		b := newBubble(echo, drain.Options{
			Propagation: 3 * time.Second, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
			Flush: func(context.Context) error { time.Sleep(time.Second); return nil },
		})
		b.Go(t.Context(), "job", func(ctx context.Context) {
			<-drain.FromContext(ctx).Begun()
			time.Sleep(7 * time.Second)
		})
		synctest.Wait()
		if _, ok := b.Report(); ok {
			t.Error("there is a report at the beginning")
		}
		b.end(nil)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		r, ok := b.Report()
		for phase, want := range map[drain.Phase]time.Duration{drain.Propagating: 3 * time.Second, drain.Draining: 7 * time.Second, drain.Flushing: time.Second} {
			wantTime(t, string(phase), r.Phases[phase], want)
		}
		if !ok || r.Err != "" || len(r.Left) != 0 || r.Began.IsZero() {
			t.Errorf("report %+v, %v", r, ok)
		}
		wantTime(t, "all of it", r.Took, 11*time.Second)
		contains(t, logged.String(), "drain: waiting", "phase=jobs", "jobs=1", "left=22s", "drain: done")
	})
}

// A Report has no duration of a phase that the drain did not have.
func TestReportHasOnlyThePhasesOfTheDrain(t *testing.T) {
	for name, c := range map[string]struct {
		opts drain.Options
		why  error
		lame time.Duration
	}{
		"handover":                      {drain.Options{Propagation: 3 * time.Second}, upgraded{}, 0},
		"without Propagation":           {drain.Options{}, nil, 0},
		"lame duck for all Propagation": {drain.Options{Propagation: 3 * time.Second}, nil, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(echo, c.opts)
				if c.lame > 0 {
					if err := b.Drain(); err != nil {
						t.Error(err)
					}
					time.Sleep(c.lame)
				}
				b.end(c.why)
				if err := <-b.done; err != nil {
					t.Error(err)
				}
				r, _ := b.Report()
				if _, ok := r.Phases[drain.Draining]; !ok || len(r.Phases) != 1 {
					t.Errorf("phases %v", r.Phases)
				}
			})
		})
	}
}

// Options.Ready may call Status.
func TestStatusInsideReady(t *testing.T) {
	var s *drain.Server
	var phases []drain.Phase
	s = drain.NewServer(nil, drain.Options{Ready: func(bool) { phases = append(phases, s.Status().Phase) }})
	for _, change := range []func() error{s.Drain, s.Resume} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	if len(phases) != 2 || phases[0] != drain.LameDuck || phases[1] != drain.Serving {
		t.Errorf("phases %q", phases)
	}
}
