//go:build unix

package listener

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// movedConn is a connection from another generation. It notes whether Abandon was called.
type movedConn struct {
	net.Conn
	plain         net.Conn
	network, addr string
	ended         []string
}

func (m *movedConn) Origin() (network, addr string) { return m.network, m.addr }
func (m *movedConn) Plain() net.Conn                { m.ended = append(m.ended, "plain"); return m.plain }
func (m *movedConn) Abandon()                       { m.ended = append(m.ended, "abandoned") }
func (m *movedConn) Close() error                   { m.ended = append(m.ended, "closed"); return nil }

// Connections that Socket.Accept was called with are the next ones that the program accepts, in the same order. They come
// before the connections in the kernel's queue, and also while the gate is shut.
func TestGivenConnectionsComeNext(t *testing.T) {
	for _, open := range []bool{false, true} {
		s, _ := newSet(t, nil)
		ln := listen(t, s, "tcp", "127.0.0.1:0", false)
		if open {
			s.Open(false)
		}
		dial(t, ln)
		given := []*movedConn{{addr: "first"}, {addr: "second"}}
		for _, c := range given {
			if err := s.Refs()[0].Accept(c); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range given {
			if got, err := ln.(*listener).AcceptMoved(); got != want {
				t.Errorf("open %v: %v, %v, want %v", open, got, err, want)
			}
		}
	}
}

// A given connection wakes an Accept that waits at a shut gate, and an Accept that waits in the system call.
func TestGivenConnectionWakesAccept(t *testing.T) {
	for _, open := range []bool{false, true} {
		s, _ := newSet(t, nil)
		ln := listen(t, s, "tcp", "127.0.0.1:0", false)
		if open {
			s.Open(false)
		}
		if err := ln.(*listener).SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		got := make(chan net.Conn)
		for range 20 {
			go func() { // the goroutine ends when Accept returns
				c, err := ln.(*listener).AcceptMoved()
				if err != nil {
					t.Errorf("open %v: %v", open, err)
				}
				got <- c
			}()
			want := &movedConn{}
			if err := s.Refs()[0].Accept(want); err != nil {
				t.Fatal(err)
			}
			if c := <-got; c != want {
				t.Fatalf("open %v: %v", open, c)
			}
		}
	}
}

// Accept returns only connections of package net, and no other process has a descriptor of them. If bytes came with a
// connection, Accept abandons the connection. Takes reports before that the listener cannot take such connections.
func TestAcceptGivesPlainConnections(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	ahead := listen(t, s, "tcp", "127.0.0.1:0", false).(*listener)
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	brings, moved := &movedConn{}, &movedConn{plain: near}
	for _, c := range []*movedConn{brings, moved} {
		if err := s.Refs()[0].Accept(c); err != nil {
			t.Fatal(err)
		}
	}
	if c := accept(t, ln); c != near || !slices.Equal(moved.ended, []string{"plain"}) || !slices.Equal(brings.ended, []string{"plain", "abandoned"}) {
		t.Errorf("%v, %v; the one that brings something: %v", c, moved.ended, brings.ended)
	}
	if err := ahead.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := ahead.AcceptMoved(); err == nil {
		t.Error("a connection came")
	}
	if b := s.Takes(); len(b.Listeners) != 2 || !slices.Equal(b.Plain, []int{0}) {
		t.Errorf("%+v", b)
	}
}

// Socket.Accept of a closed listener abandons the connection, and returns an error with the name of the listener.
func TestClosedListenerTakesNothing(t *testing.T) {
	s, _ := newSet(t, nil)
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	r := s.Refs()[0]
	ln.Close()
	moved := &movedConn{}
	near, far := net.Pipe()
	defer far.Close()
	for _, c := range []net.Conn{moved, near} {
		if err := r.Accept(c); err == nil || !strings.Contains(err.Error(), "the listener tcp 127.0.0.1:0 does not accept") {
			t.Error(err)
		}
	}
	if !slices.Equal(moved.ended, []string{"abandoned"}) {
		t.Errorf("the connection that another process has too: %v", moved.ended)
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the connection that nobody else has is open")
	}
}

// When a listener is closed, the given connections that were not accepted are passed on. If no process takes a connection, it
// is abandoned.
func TestCloseMovesOnWhatWasNotAccepted(t *testing.T) {
	var on []net.Conn
	s := New(&generation{}, func(c net.Conn) bool {
		on = append(on, c)
		return len(on) == 1
	})
	ln := listen(t, s, "tcp", "127.0.0.1:0", false)
	taken, left := &movedConn{}, &movedConn{}
	for _, c := range []net.Conn{taken, left} {
		if err := s.Refs()[0].Accept(c); err != nil {
			t.Fatal(err)
		}
	}
	ln.Close()
	if !slices.Equal(on, []net.Conn{taken, left}) || len(taken.ended) > 0 || !slices.Equal(left.ended, []string{"abandoned"}) {
		t.Errorf("passed on %v; taken: %v, left: %v", on, taken.ended, left.ended)
	}
}
