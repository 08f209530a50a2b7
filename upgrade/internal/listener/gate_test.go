package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func testListener(t *testing.T) (*Set, net.Listener) {
	t.Helper()
	s := New(nil, func(net.Conn) bool { return false })
	ln, err := s.Listen("tcp", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return s, ln
}

// At a shut gate, connections stay in the kernel's queue. An Accept that waits in the system call when the gate shuts does not
// return to the program.
func TestShutGateAcceptsNothing(t *testing.T) {
	s, ln := testListener(t)
	accepted := make(chan net.Conn)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	})
	dial := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	passed := func() bool { // the test cannot wait for the absence of an event
		select {
		case c := <-accepted:
			return c.Close() == nil
		case <-time.After(5 * time.Millisecond):
			return false
		}
	}
	for range 20 {
		dial()
		if passed() { // an Accept inside the system call may still get a connection; the next Accept waits
			dial()
		}
		if passed() {
			t.Fatal("accepted through a shut gate")
		}
		s.Open(true)
		(<-accepted).Close()
		s.Pause(true)
	}
	ln.Close()
	wg.Wait()
}

// If a gate is opened and shut many times, no connection is lost, and the waiting Accept gets its connection.
func TestGateSurvivesHaste(t *testing.T) {
	s, ln := testListener(t)
	var wg sync.WaitGroup
	const conns = 300
	wg.Go(func() {
		for range conns {
			c, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		}
	})
	wg.Go(func() {
		for range conns {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, c)
			c.Close()
		}
	})
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		default:
			s.Open(true)
			s.Pause(true)
			s.Open(true)
			runtime.Gosched() // the test must also work on one processor
		}
	}
}

// A deadline that the program has set ends Accept, also after the gate was shut and opened.
func TestProgramKeepsItsDeadline(t *testing.T) {
	s, ln := testListener(t)
	s.Open(true)
	if err := ln.(*listener).SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := ln.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Accept: %v", err)
		}
		s.Pause(true)
		s.Open(true)
	}
}

// A deadline ends an Accept that waits at a shut gate. The program may set the deadline before the call of Accept or during the
// call.
func TestDeadlineCountsAtAShutGate(t *testing.T) {
	_, ln := testListener(t)
	for range 2 {
		failed := make(chan error, 1)
		go func() {
			_, err := ln.Accept()
			failed <- err
		}()
		if err := ln.(*listener).SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Accept: %v", err)
		}
	}
}

// The error of Accepting names the listener on which the program does not accept.
func TestUnservedListenerIsNamed(t *testing.T) {
	s, ln := testListener(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("time is over"))
	err := s.Accepting(ctx)
	if err == nil || !strings.Contains(err.Error(), "nobody accepts") || !strings.Contains(err.Error(), "127.0.0.1:0") {
		t.Fatal(err)
	}
	refs := s.Refs()
	ln.Close()
	if err := s.Accepting(t.Context()); err != nil {
		t.Fatalf("a listener that was closed before is waited for: %v", err)
	}
	s.all.order.PushBack(refs[0])
	if err := s.Accepting(t.Context()); err == nil || !strings.Contains(err.Error(), "was closed before anybody accepted") {
		t.Fatalf("a listener that is closed meanwhile: %v", err)
	}
	s.all.order.Init()
}

// A connection that is given just before the gate opens is the next one that Accept returns. The reader that callBack has
// interrupted may still be inside the system call when the gate opens. If the gate then removed the deadline of callBack, the
// system call would not return.
func TestGivenBeforeOpenIsNotForgotten(t *testing.T) {
	var called atomic.Bool
	g := newGate(func(at time.Time) error { called.Store(!at.IsZero()); return nil })
	inside, wake := make(chan struct{}), make(chan struct{})
	got := make(chan net.Conn, 1)
	g.open()
	go func() { // the goroutine ends when through returns
		c, _ := g.through(func() error {
			inside <- struct{}{}
			<-wake
			if called.Load() {
				return os.ErrDeadlineExceeded
			}
			return errors.New("it waits on")
		})
		got <- c
	}()
	<-inside
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	g.shut()
	g.give(near)
	g.open()
	close(wake)
	if c := <-got; c != near {
		t.Errorf("got %v", c)
	}
}

// A deadline that is set while a reader waits at a shut gate counts for this reader. A deadline in the past ends the wait at
// once, and a later deadline ends it later. If the deadline is removed, the reader waits on.
func TestNewDeadlineWakesAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(func(time.Time) error { return nil })
		ended := make(chan error, 1)
		wait := func() {
			go func() { // ends with the deadline
				_, err := g.through(func() error { return errors.New("the gate is open") })
				ended <- err
			}()
			synctest.Wait()
		}
		begun := time.Now()
		for _, c := range []struct{ sets, after time.Duration }{{-1, 0}, {time.Second, time.Second}} {
			wait()
			for _, at := range []time.Time{begun.Add(time.Hour), {}, time.Now().Add(c.sets)} {
				if err := g.setDeadline(at); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != c.after {
				t.Errorf("%v after %v, want %v", err, time.Since(begun), c.after)
			}
			if err := g.setDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// End makes Accept return net.ErrClosed, at an open gate and at a shut gate, and also if Accept waits already. This stays so
// when the gate is opened again. A connection that was given before is accepted first. The socket stays open.
func TestEndedGateAcceptsWhatWasGivenOnly(t *testing.T) {
	for _, open := range []bool{true, false} {
		for _, waits := range []bool{true, false} {
			s, ln := testListener(t)
			if open {
				s.Open(true)
			}
			g := s.Refs()[0].gate
			ended := make(chan error, 1)
			accept := func() {
				_, err := ln.Accept()
				ended <- err
			}
			if waits {
				go accept() // the goroutine ends when the gate is ended
				<-g.waiting
			}
			s.End()
			if !waits {
				go accept()
			}
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("open %v, waits %v: %v", open, waits, err)
			}
			s.Open(true)
			near, far := net.Pipe()
			g.give(near)
			if c, err := ln.Accept(); c != near || err != nil {
				t.Errorf("open %v: accepted %v, %v", open, c, err)
			}
			if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("open %v: after End and Open: %v", open, err)
			}
			near.Close()
			far.Close()
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Errorf("the socket is closed: %v", err)
				continue
			}
			c.Close()
		}
	}
}
