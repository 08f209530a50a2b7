package wire

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

// full fills the socket's buffer, and returns how many frames went in.
func full(t *testing.T, l *Link) (frames int) {
	t.Helper()
	for ; frames < 1<<20; frames++ {
		err := l.TrySend(KindConn, ConnBody{Ahead: make([]byte, 8<<10)}, nil, 0)
		if errors.Is(err, syscall.EAGAIN) {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the buffer has no end")
	return 0
}

// A message that waits for room is sent as soon as the other process reads, and only once.
func TestSendingWaitsForRoom(t *testing.T) {
	here, there := sockets(t)
	l := NewLink(here)
	defer l.Close()
	in := full(t, l)
	sent := make(chan error, 1)
	go func() { sent <- l.SendWithin(KindHurry, nil, nil, time.Minute) }()
	select {
	case err := <-sent:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(10 * time.Millisecond): // the test cannot wait for the absence of an event
	}
	reader := NewLink(there)
	defer reader.Close()
	for range in {
		f := <-reader.Frames
		if f.Kind != KindConn {
			t.Fatalf("%v overtakes", f.Kind)
		}
		f.Close()
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if f := <-reader.Frames; f.Kind != KindHurry {
		t.Errorf("%v came", f.Kind)
	}
}

// SendWithin waits at most its limit for a process that does not read. If the other process has ended, it does not wait.
func TestSendingGivesUp(t *testing.T) {
	here, there := sockets(t)
	l := NewLink(here)
	defer l.Close()
	full(t, l)
	if err := l.SendWithin(KindHurry, nil, nil, 5*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody reads: %v", err)
	}
	sent := make(chan error, 1)
	go func() { sent <- l.SendWithin(KindHurry, nil, nil, time.Hour) }()
	there.Close()
	if err := <-sent; !Gone(err) {
		t.Errorf("nobody is there: %v", err)
	}
}
