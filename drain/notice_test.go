package drain_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// told runs a request whose handler waits until it has learned of the drain.
func told(b *bubble, notices chan *drain.Notice) {
	go io.WriteString(b.ln.dial(), "GET /told HTTP/1.1\r\nHost: x\r\n\r\n")
	synctest.Wait()
	<-notices
}

// A handler learns that the drain has begun and how much time is left, and its context is not cancelled. In a plain stop, the
// handler learns this after Propagation.
func TestHandlersLearnOfTheDrain(t *testing.T) {
	for cause, delay := range map[error]time.Duration{nil: 7 * time.Second, upgraded{}: 0} {
		synctest.Test(t, func(t *testing.T) {
			notices, heard := make(chan *drain.Notice, 1), make(chan time.Duration, 1)
			var since time.Time
			b := newBubble(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := drain.FromContext(r.Context())
				if _, ok := n.Deadline(); ok || n.Handover() {
					t.Error("it has begun at the beginning")
				}
				notices <- n
				<-n.Begun()
				if r.Context().Err() != nil {
					t.Error("the request was cancelled")
				}
				until, ok := n.Deadline()
				if !ok || until.Sub(since) != 30*time.Second || n.Handover() != (cause != nil) {
					t.Errorf("deadline after %v, %v, handover %v", until.Sub(since), ok, n.Handover())
				}
				heard <- time.Since(since)
			}), drain.Options{Propagation: 7 * time.Second})
			told(b, notices)
			since = time.Now()
			b.end(cause)
			wantTime(t, "the handler heard", <-heard, delay)
			b.ln.Close()
			if err := <-b.done; err != nil {
				var timeout *drain.TimeoutError
				if !errors.As(err, &timeout) { // nobody reads the answer
					t.Error(err)
				}
			}
		})
	}
}

// A request that goes on when Grace has run out is cancelled, and the cause says why.
func TestHandlersAreCancelledWithACause(t *testing.T) {
	cause := make(chan error, 1)
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		cause <- context.Cause(r.Context())
	})}, drain.Options{Grace: 30 * time.Millisecond})
	c := s.dial()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	s.until("active", func() bool { return s.Status().Active == 1 })
	s.stop()
	if err := <-cause; !errors.Is(err, drain.ErrExpired) {
		t.Errorf("cause %v", err)
	}
	if a := c.answer(); a.status != http.StatusOK { // there is time for an answer
		t.Errorf("answer %+v", a)
	}
	c.Close()
	var timeout *drain.TimeoutError
	if err := s.wait(); !errors.As(err, &timeout) || timeout.Left[0].Action != "cancelled" {
		t.Errorf("Serve = %v", err)
	}
}

// Without a server nothing ever begins.
func TestFromContextIsNeverNil(t *testing.T) {
	n := drain.FromContext(t.Context())
	select {
	case <-n.Begun():
		t.Error("it has begun")
	default:
	}
	if _, ok := n.Deadline(); ok || n.Handover() {
		t.Error("it has begun")
	}
}

// FromContext finds the Notice of the server in a context of Server.Context.
func TestContextCarriesTheNotice(t *testing.T) {
	s := serve(t, &http.Server{}, drain.Options{})
	n := drain.FromContext(s.Context(t.Context()))
	s.handOver()
	<-n.Begun()
	s.clean()
}
