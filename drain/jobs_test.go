package drain_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A drain waits for jobs as for requests, and jobs learn of the drain (F16). If only jobs are left, the phase is Jobs.
func TestDrainWaitsForJobs(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{Grace: time.Hour})
	finish := make(chan struct{})
	err := s.Go(t.Context(), "mails", func(ctx context.Context) {
		<-drain.FromContext(ctx).Begun()
		<-finish
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := s.Entries(); len(e) != 1 || e[0].Protocol != "job" || e[0].Name != "mails" || s.Status().Jobs != 1 {
		t.Errorf("entries %+v", e)
	}
	s.handOver()
	s.until("jobs are all that is left", func() bool { return s.Status().Phase == drain.Jobs })
	s.open()
	close(finish)
	s.clean()
}

// When Grace has run out, a job is cancelled with a cause, and listed. A job that ignores the cancellation does not hold up
// Serve for ever.
func TestGraceCancelsJobs(t *testing.T) {
	s := serve(t, &http.Server{}, drain.Options{Grace: 20 * time.Millisecond})
	cause, deaf := make(chan error, 1), make(chan struct{})
	s.Go(t.Context(), "polite", func(ctx context.Context) {
		<-ctx.Done()
		cause <- context.Cause(ctx)
	})
	s.Go(t.Context(), "deaf", func(context.Context) { <-deaf })
	s.stop()
	var timeout *drain.TimeoutError
	if err := s.wait(); !errors.As(err, &timeout) || len(timeout.Left) != 2 {
		t.Fatalf("Serve = %v", err)
	}
	for _, l := range timeout.Left {
		if l.Protocol != "job" || l.Action != "cancelled" {
			t.Errorf("left %+v", l)
		}
	}
	if err := <-cause; !errors.Is(err, drain.ErrExpired) {
		t.Errorf("cause %v", err)
	}
	close(deaf)
}

// After the drain no job begins, because no drain would wait for it.
func TestJobsAreRefusedAfterADrain(t *testing.T) {
	s := serve(t, &http.Server{}, drain.Options{})
	s.stop()
	s.clean()
	if err := s.Go(t.Context(), "late", func(context.Context) { t.Error("it runs") }); !errors.Is(err, drain.ErrClosed) {
		t.Errorf("Go = %v", err)
	}
	if _, err := s.Track(drain.Entry{}, nil); !errors.Is(err, drain.ErrClosed) {
		t.Errorf("Track = %v", err)
	}
}

// If a job comes at the end of a drain, the drain either waits for the job or refuses it.
func TestJobsThatCrossTheEndAreWaitedForOrRefused(t *testing.T) {
	for range 200 {
		s := drain.NewServer(nil, drain.Options{})
		ctx, end := context.WithCancelCause(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, listen(t)) }()
		var ended atomic.Bool
		taken := make(chan bool, 1)
		go func() {
			taken <- s.Go(t.Context(), "crossing", func(context.Context) { runtime.Gosched(); ended.Store(true) }) == nil
		}()
		end(upgraded{})
		if err := <-served; err != nil {
			t.Fatal(err)
		}
		if done := ended.Load(); <-taken && !done {
			t.Fatal("Serve returned before a job")
		}
	}
}

// Entries shows an entry of Track unchanged. The drain waits until done is called, and a second call of done does nothing.
func TestTrackHoldsTheDrain(t *testing.T) {
	s := serve(t, &http.Server{}, drain.Options{})
	done, err := s.Track(drain.Entry{Protocol: "queue", Name: "orders", Remote: "broker:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := s.Entries()[0]; e.String() != "queue active orders broker:1" || e.Since.IsZero() {
		t.Errorf("entry %v", e)
	}
	s.handOver()
	s.until("it is waited for", func() bool { return s.Status().Phase == drain.Jobs })
	done()
	done()
	s.clean()
}
