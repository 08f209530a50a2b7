//go:build unix

package listener

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// send sends a datagram to a packet connection.
func send(t testing.TB, to net.PacketConn, text string) {
	t.Helper()
	c, err := net.Dial(to.LocalAddr().Network(), to.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next datagram.
func receive(t testing.TB, c net.PacketConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, _, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// A candidate's ReadFrom waits until the candidate has taken over. The old process gets all datagrams before that moment, and
// the candidate gets all later datagrams.
func TestDatagramsGoToOneProcess(t *testing.T) {
	old, _ := newSet(t, nil)
	here := listenPacket(t, old, "udp", "127.0.0.1:0")
	old.Open(true)
	candidate, _ := newSet(t, old)
	there := listenPacket(t, candidate, "udp", "127.0.0.1:0")
	candidate.Open(false) // this does not open the gate, because the socket is pinned
	got := make(chan string, 1)
	go func() { // the goroutine ends when ReadFrom returns the datagram
		b := make([]byte, 100)
		n, _, err := there.ReadFrom(b)
		got <- string(b[:n])
		if err != nil {
			t.Error(err)
		}
	}()
	<-candidate.Refs()[0].gate.waiting
	for _, text := range []string{"first", "second", "third"} {
		send(t, here, text)
		if got := receive(t, here); got != text {
			t.Errorf("the old process reads %q, want %q", got, text)
		}
	}
	old.Pause(true)
	send(t, here, "fourth")
	if err := here.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := here.ReadFrom(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the old process reads %d bytes, %v", n, err)
	}
	candidate.Open(true)
	if text := <-got; text != "fourth" {
		t.Errorf("the candidate reads %q", text)
	}
}

// A ReadFrom that waits in the system call when the gate shuts gets no datagram that comes later. The program does not notice
// the gate.
func TestShutGateCallsReadersBack(t *testing.T) {
	s, _ := newSet(t, nil)
	c := listenPacket(t, s, "udp", "127.0.0.1:0")
	g := s.Refs()[0].gate
	s.Open(true)
	got := make(chan string)
	go func() { // the goroutine ends when the connection is closed
		defer close(got)
		for b := make([]byte, 100); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			got <- string(b[:n])
		}
	}()
	for _, text := range []string{"a", "b", "c"} {
		s.Pause(true)
		send(t, c, text)
		select {
		case early := <-got: // the kernel may still give a datagram to a reader inside the system call
			if early != text {
				t.Errorf("%q, want %q", early, text)
			}
			s.Open(true)
			continue
		case <-time.After(5 * time.Millisecond): // the test cannot wait for the absence of an event
		}
		if g.isOpen() {
			t.Error("the gate is open")
		}
		s.Open(true)
		if late := <-got; late != text {
			t.Errorf("%q, want %q", late, text)
		}
	}
	c.Close()
	for range got {
	}
}

// A deadline ends a ReadFrom at an open gate and at a shut gate. SetDeadline also sets the deadline for writing, and
// SetReadDeadline does not.
func TestPacketDeadlines(t *testing.T) {
	for _, open := range []bool{true, false} {
		s, _ := newSet(t, nil)
		c := listenPacket(t, s, "udp", "127.0.0.1:0")
		if open {
			s.Open(true)
		}
		for _, d := range []struct {
			name   string
			set    func(time.Time) error
			writes bool
		}{{"read", c.SetReadDeadline, true}, {"both", c.SetDeadline, false}, {"write", c.SetWriteDeadline, false}} {
			if err := errors.Join(c.SetDeadline(time.Time{}), c.SetReadDeadline(time.Unix(1, 0)), d.set(time.Unix(1, 0))); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.ReadFrom(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("open %v, %s: ReadFrom: %v", open, d.name, err)
			}
			if _, err := c.WriteTo([]byte("x"), c.LocalAddr()); errors.Is(err, os.ErrDeadlineExceeded) == d.writes {
				t.Errorf("open %v, %s: WriteTo: %v", open, d.name, err)
			}
		}
	}
}

// SetDeadline alone ends a ReadFrom.
func TestSetDeadlineEndsReadFrom(t *testing.T) {
	s, _ := newSet(t, nil)
	c := listenPacket(t, s, "udp", "127.0.0.1:0")
	s.Open(true)
	ended := make(chan error, 1)
	go func() { // ends with the deadline
		_, _, err := c.ReadFrom(make([]byte, 1))
		ended <- err
	}()
	<-s.Refs()[0].gate.waiting
	if err := c.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	c.Close()
	if err := c.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection has a deadline: %v", err)
	}
}

// Close ends a ReadFrom that waits, at an open gate and at a shut gate.
func TestCloseEndsReadFrom(t *testing.T) {
	for _, open := range []bool{true, false} {
		s, _ := newSet(t, nil)
		c := listenPacket(t, s, "udp", "127.0.0.1:0")
		if open {
			s.Open(true)
		}
		ended := make(chan error, 1)
		go func() { // the goroutine ends when the connection is closed
			_, _, err := c.ReadFrom(make([]byte, 1))
			ended <- err
		}()
		<-s.Refs()[0].gate.waiting
		c.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("open %v: %v", open, err)
		}
	}
}
