package handoff

import (
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// busyWire has no room until a given time.
type busyWire struct {
	until time.Time
	end   chan struct{}
}

func (w *busyWire) Send([]byte, []*os.File) error     { return nil }
func (w *busyWire) TrySend([]byte, ...*os.File) error { return syscall.EAGAIN }
func (w *busyWire) SendBy(_ []byte, _ *os.File, by time.Time) error {
	if by.Before(w.until) {
		time.Sleep(time.Until(by))
		return os.ErrDeadlineExceeded
	}
	time.Sleep(time.Until(w.until))
	return nil
}
func (w *busyWire) Recv([]byte) (int, []*os.File, error) { <-w.end; return 0, nil, io.EOF }
func (w *busyWire) Close() error                         { close(w.end); return nil }

// The sending of an idle connection waits for a busy process less long, because a request that comes meanwhile waits too. The
// sending of a connection with bytes ahead waits longer.
func TestConnectionsWithAStateWaitForABusyProcess(t *testing.T) {
	for _, c := range []struct {
		ahead string
		busy  time.Duration
		want  bool
	}{
		{"", 490 * time.Millisecond, true},
		{"", 510 * time.Millisecond, false},
		{"state", 1900 * time.Millisecond, true},
		{"state", 2100 * time.Millisecond, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := wire.NewLink(&busyWire{until: time.Now().Add(c.busy), end: make(chan struct{})})
			about := wire.ConnBody{Ahead: []byte(c.ahead), Idle: c.ahead == ""}
			if got := l.SendWithin(wire.KindConn, about, nil, patience(about)) == nil; got != c.want {
				t.Errorf("with %q ahead, to a process that is busy for %v: %v", c.ahead, c.busy, got)
			}
			l.Close()
		})
	}
}
