package upgrade

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// slowWire takes its time for a frame.
type slowWire struct {
	takes time.Duration
	full  time.Time // until then it has no room
	end   chan struct{}
}

func (w *slowWire) send([]byte, []*os.File) error { time.Sleep(w.takes); return nil }
func (w *slowWire) trySend([]byte, *os.File) error {
	if time.Now().Before(w.full) {
		return syscall.EAGAIN
	}
	return nil
}
func (w *slowWire) recv([]byte) (int, []*os.File, error) { <-w.end; return 0, nil, io.EOF }
func (w *slowWire) Close() error                         { close(w.end); return nil }

// A message waits for another frame that is being sent, but not for long; a connection does not wait at all, since the
// accept loop would.
func TestMessagesTakeTurns(t *testing.T) {
	for _, c := range []struct {
		other, wait time.Duration
		want        error
	}{
		{publishWait / 2, publishWait, nil},
		{2 * publishWait, publishWait, errBusy},
		{publishWait / 2, 0, errBusy},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLink(&slowWire{takes: c.other, end: make(chan struct{})})
			go func() { _ = l.send(kindShut, nil) }()
			synctest.Wait()
			if err := l.trySend(kindMessage, nil, nil, c.wait); !errors.Is(err, c.want) {
				t.Errorf("while another frame takes %v, with a wait of %v: %v, want %v", c.other, c.wait, err, c.want)
			}
			time.Sleep(c.other)
			synctest.Wait()
			if err := l.trySend(kindMessage, nil, nil, 0); err != nil {
				t.Errorf("when it has gone: %v", err)
			}
			l.close()
		})
	}
}

// An idle connection is not worth a long wait for a busy process: its server offers it again. One with a state is.
func TestConnectionsWithAStateWaitForABusyProcess(t *testing.T) {
	for _, c := range []struct {
		ahead string
		busy  time.Duration
		want  bool
	}{
		{"", 40 * time.Millisecond, true},
		{"", 60 * time.Millisecond, false},
		{"state", 1900 * time.Millisecond, true},
		{"state", 2100 * time.Millisecond, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLink(&slowWire{full: time.Now().Add(c.busy), end: make(chan struct{})})
			ahead := []byte(c.ahead)
			if got := sendConn(l, connBody{Ahead: ahead}, nil, moveLimit(ahead)); got != c.want {
				t.Errorf("with %q ahead, to a process that is busy for %v: %v", c.ahead, c.busy, got)
			}
			l.close()
		})
	}
}

// What a connection has brought and nobody has read goes on with it, behind what is added here.
func TestUnreadBytesMoveOn(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	about := connBody{Network: "tcp", Addr: ":1", Ahead: []byte("brought")}
	c := &movedConn{Conn: near, about: about, ahead: about.Ahead}
	u := &Upgrader{listeners: &listeners{known: []knownListener{{network: "tcp", addr: ":1"}}}}
	var got string
	u.setMover(func(_ knownListener, _ net.Conn, ahead []byte) bool { got = string(ahead); return true })
	if _, err := c.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	for added, want := range map[string]string{"": "ught", "added, ": "added, ught"} {
		if !u.MoveWith(c, []byte(added)) || got != want {
			t.Errorf("with %q it moves with %q, want %q", added, got, want)
		}
	}
	if u.MoveWith(c, make([]byte, aheadLimit)) {
		t.Error("it moves with more than the limit")
	}
	if !u.Carries(c) || u.Carries(&movedConn{Conn: near}) || u.Carries(near) {
		t.Error("Carries does not tell who has brought something")
	}
}

// writtenWire notes what is sent.
type writtenWire struct {
	wireOf
	sent func(kind)
}

func (w *writtenWire) send(b []byte, _ []*os.File) error {
	f, _, err := cutFrame(b)
	w.sent(f.kind)
	return err
}

// A candidate says that it serves when what it sends back has been sent: after that the old process may end unheard.
func TestServingIsSaidAfterWhatComesBack(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	u, err := NewUnsupported(Options{})
	if err != nil {
		t.Fatal(err)
	}
	u.listeners.known = []knownListener{{network: "tcp", addr: ":1"}}
	began, sent, said := make(chan struct{}), false, false
	u.setMover(func(knownListener, net.Conn, []byte) bool {
		close(began)
		<-time.After(20 * time.Millisecond) // a move takes its time
		sent = true
		return true
	})
	u.parent = &link{turn: make(chan struct{}, 1), wire: &writtenWire{sent: func(k kind) {
		if said = k == kindServing; said && !sent {
			t.Error("one is still on its way")
		}
	}}}
	go u.Move(&movedConn{Conn: near, about: connBody{Network: "tcp", Addr: ":1"}}) // commit waits for it
	<-began
	b, err := encodeFrame(kindCommit, commitBody{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, _, err := cutFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	if (&runner{u: u}).commit(f); !said {
		t.Error("it did not say that it serves")
	}
}

// One that has said hello and has ended is heard before its end is: it has got further than its start.
func TestHelloIsHeardBeforeTheEnd(t *testing.T) {
	for range 50 { // what has happened at the same time is looked at in any order
		a := &attempt{u: &Upgrader{}, ctx: t.Context(), phase: PhaseStart}
		l := &link{frames: make(chan frame, 1)}
		l.frames <- frame{kind: kindHello}
		close(l.frames)
		a.child = &child{link: l, Child: &process.Child{Exited: make(chan struct{})}}
		close(a.child.Exited)
		if f, err := a.until(kindHello, 0, nil); err != nil || f.kind != kindHello {
			t.Fatalf("%+v, %v", f, err)
		}
	}
}

// deadWire is that of a candidate that has said why it gives up, and is gone.
type deadWire struct{ wireOf }

func (w *deadWire) send([]byte, []*os.File) error { return syscall.EPIPE }

// What a candidate has said last is the reason, and not that it cannot be told anything.
func TestLastWordsAreTheReason(t *testing.T) {
	b, err := encodeFrame(kindFailed, failedBody{Phase: string(PhaseCheck), Reason: "I do not like it"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	a := &attempt{u: &Upgrader{opts: Options{Silence: time.Minute}}, ctx: t.Context(), phase: PhaseSoak}
	a.child = &child{link: newLink(&deadWire{wireOf{pieces: [][]byte{b}}}), Child: &process.Child{Exited: make(chan struct{})}}
	if err := a.send(kindOpen, nil); err == nil || err.Error() != "I do not like it" {
		t.Errorf("the reason is %v", err)
	}
	a.child.link.close()
}

// A Release that does not return in time is not overtaken by an Acquire: two of them would hold and drop one thing in any
// order.
func TestAcquireWaitsForAnOverrunRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var released, acquired time.Duration
		s := &resources{all: []*resource{{name: "it", held: true, Resource: Resource{
			Release: func(context.Context) error { time.Sleep(10 * time.Second); released = time.Since(began); return nil },
			Acquire: func(context.Context) error { acquired = time.Since(began); return nil },
		}}}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.release(ctx); err == nil || !strings.Contains(err.Error(), "did not return") {
			t.Errorf("release: %v", err)
		}
		if err := s.acquire(ctx); err == nil || !strings.Contains(err.Error(), "goes on") {
			t.Errorf("acquire in vain: %v", err)
		}
		if err := s.acquire(t.Context()); err != nil || released == 0 || acquired < released {
			t.Errorf("acquire: %v after %v, the release ended after %v", err, acquired, released)
		}
	})
}
