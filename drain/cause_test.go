package drain_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// listening is a cause that learns which servers drain.
type listening struct{ begun, now *atomic.Int32 }

func (listening) Error() string { return "stop" }

func (l listening) Draining() (ended func()) {
	l.begun.Add(1)
	l.now.Add(1)
	return func() { l.now.Add(-1) }
}

// The cause of the context learns that the server drains, from the first moment of the drain, before Propagation, to the last.
func TestCauseLearnsOfTheDrain(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-release
	})}, drain.Options{Propagation: 50 * time.Millisecond, IdleGrace: 50 * time.Millisecond})
	go http.Get("http://" + s.addr) // ends with the answer
	<-begun
	cause := listening{new(atomic.Int32), new(atomic.Int32)}
	s.begin(cause)
	if cause.now.Load() != 1 {
		t.Error("the cause does not know of the drain")
	}
	s.until("the time as a lame duck is over", func() bool { return s.Status().Phase == drain.Draining })
	if cause.now.Load() != 1 {
		t.Error("the cause has lost the drain")
	}
	close(release)
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	if cause.now.Load() != 0 || cause.begun.Load() != 1 {
		t.Errorf("%d drains have begun, %d go on", cause.begun.Load(), cause.now.Load())
	}
}
