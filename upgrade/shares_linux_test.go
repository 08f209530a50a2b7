package upgrade

import (
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// sharing is an attempt in the stage baking, with a listener. Its candidate does not read one message until goOn is called.
type sharing struct {
	*attempt
	ln    net.Listener
	stuck chan struct{} // closed when the sending of that message begins
	goOn  func()

	mu   sync.Mutex
	sent []string // the kinds and the bodies of the messages
}

// startSharing makes a sharing, and sets the weights. The candidate does not read the first message of a kind after that.
func startSharing(t *testing.T, unread wire.Kind, weights ...float64) *sharing {
	t.Helper()
	read := make(chan struct{})
	s := &sharing{attempt: attemptAt(t, atBaking), stuck: make(chan struct{}), goOn: sync.OnceFunc(func() { close(read) })}
	ln, err := s.estate.listeners.Listen("tcp", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	s.ln = ln
	s.estate.listeners.Open(true)
	begin, ready := sync.OnceFunc(func() { close(s.stuck) }), false
	transport := &quietTransport{closed: make(chan struct{})}
	transport.Sent = func(b []byte) {
		k := wire.Kind(b[4])
		s.mu.Lock()
		s.sent = append(s.sent, k.String()+string(b[12:]))
		wait := ready && k == unread
		s.mu.Unlock()
		if wait {
			begin()
			<-read
		}
	}
	s.child.link = wire.NewLink(transport)
	t.Cleanup(func() { s.goOn(); s.child.link.Close(); ln.Close() })
	for _, w := range weights {
		if err := s.shares.setWeight(w); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent, ready = nil, true
	return s
}

// set calls setWeight in a goroutine, and returns the channel of the result.
func (s *sharing) set(w float64) <-chan error {
	result := make(chan error, 1)
	go func() { result <- s.shares.setWeight(w) }() // ends after goOn
	return result
}

// messages returns the messages that the candidate was sent after startSharing.
func (s *sharing) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// takeBack makes the attempt go to the stage dismissing, and fails the test if the change waits for the candidate.
func (s *sharing) takeBack(t *testing.T) {
	t.Helper()
	s.dismissal = &dismissal{attempt: s.attempt, cause: errors.New("by hand")}
	moved := make(chan struct{})
	go func() { // ends after goOn at the latest
		defer close(moved)
		s.move(atDismissing)
	}()
	select {
	case <-moved:
	case <-time.After(5 * time.Second):
		t.Error("the change of the stage waits until the candidate reads")
		s.goOn()
		<-moved
	}
}

// accepts reports whether this process accepts.
func (s *sharing) accepts(t *testing.T) bool {
	t.Helper()
	c, err := net.Dial("tcp", s.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = acceptWithin(s.ln, 200*time.Millisecond)
	return err == nil
}

// An attempt is taken back at once while a weight is on its way to a candidate that does not read. The rest of the call has no
// effect: this process goes on to accept, and the candidate gets no other message of the bake.
func TestTakeBackDoesNotWaitForAWeight(t *testing.T) {
	for _, c := range []struct {
		unread  wire.Kind
		weights []float64
		next    float64
	}{
		{wire.KindShare, nil, 0.5},
		{wire.KindOpen, []float64{0.5}, 1},
		{wire.KindShut, []float64{1}, 0.5},
		{wire.KindWeight, []float64{0.5}, 0.1},
	} {
		t.Run(c.unread.String(), func(t *testing.T) {
			s := startSharing(t, c.unread, c.weights...)
			result := s.set(c.next)
			<-s.stuck
			s.takeBack(t)
			s.estate.listeners.Open(true) // as dismiss does
			s.shares.stop()
			before := s.messages()
			s.goOn()
			if err := <-result; !errors.Is(err, ErrClosed) {
				t.Errorf("setWeight: %v", err)
			}
			if after := s.messages(); !slices.Equal(before, after) {
				t.Errorf("the candidate was sent %v, and then %v", before, after)
			}
			if !s.accepts(t) {
				t.Error("this process does not accept")
			}
		})
	}
}

// An attempt that is taken back at weight 1 accepts again although the judge has not returned, and the judge sets no weight any
// more.
func TestTakeBackDoesNotWaitForTheJudge(t *testing.T) {
	s := startSharing(t, 0, 1)
	if s.accepts(t) {
		t.Fatal("this process accepts at weight 1")
	}
	returned := make(chan struct{})
	s.work = newWork("Bake", func() {}, nil, func() error { <-returned; return nil })
	done := make(chan struct{})
	go func() { // ends when the judge has returned
		defer close(done)
		s.step(news{event: evObjected, err: errors.New("it is bad")})
	}()
	c, err := net.Dial("tcp", s.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := acceptWithin(s.ln, commitStall/2); err != nil {
		t.Errorf("this process does not accept: %v", err)
	} else {
		got.Close()
	}
	if err := s.shares.setWeight(1); !errors.Is(err, ErrClosed) {
		t.Errorf("setWeight: %v", err)
	}
	close(returned)
	if <-done; s.stage != atDismissing {
		t.Errorf("now %v", s.stage)
	}
}

// A weight that waits for its turn on the control socket is not sent any more when the bake is over.
func TestNoWeightIsSentAfterTheBake(t *testing.T) {
	s := startSharing(t, wire.KindDial, 0.5)
	dialed := make(chan error, 1)
	go func() { dialed <- s.child.link.Send(wire.KindDial, nil) }() // ends after goOn
	<-s.stuck
	result := s.set(0.1)
	testutil.Until(t, 5*time.Second, "the weight is about to be sent", func() bool { return s.shares.weight() == 0.1 })
	s.takeBack(t)
	s.goOn()
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Errorf("setWeight: %v", err)
	}
	if err := <-dialed; err != nil {
		t.Error(err)
	}
	if got := s.messages(); len(got) != 1 {
		t.Errorf("the candidate was sent %v", got)
	}
}

// Of two weights that are set at the same time, the candidate is sent the later one last.
func TestWeightsAreSentInTheirOrder(t *testing.T) {
	s := startSharing(t, wire.KindWeight, 0.9)
	first := s.set(0.5)
	<-s.stuck
	second := s.set(0.1)
	select {
	case err := <-second:
		t.Errorf("the second weight did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
		if w := s.shares.weight(); w != 0.5 {
			t.Errorf("the weight is %v while the candidate is sent 0.5", w)
		}
	}
	s.goOn()
	for _, result := range []<-chan error{first, second} {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	want := []string{`weight{"from":0.9,"to":0.5}`, `weight{"from":0.5,"to":0.1}`}
	if got := s.messages(); !slices.Equal(got, want) || s.shares.weight() != 0.1 {
		t.Errorf("the weight is %v, and the candidate was sent %v, want %v", s.shares.weight(), got, want)
	}
}
