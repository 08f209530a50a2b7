//go:build unix

package wire

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// shortWire is a transport with a shortage that ends at a given time.
type shortWire struct {
	err   error
	until time.Time
	tries int
	end   chan struct{}
}

func (w *shortWire) Send([]byte, []*os.File) error        { return nil }
func (w *shortWire) TrySend([]byte, ...*os.File) error    { return w.SendBy(nil, nil, time.Time{}) }
func (w *shortWire) Recv([]byte) (int, []*os.File, error) { <-w.end; return 0, nil, io.EOF }
func (w *shortWire) Close() error                         { close(w.end); return nil }
func (w *shortWire) SendBy([]byte, *os.File, time.Time) error {
	w.tries++
	if time.Now().Before(w.until) {
		return fmt.Errorf("sendmsg: %w", w.err)
	}
	return nil
}

// SendWithin waits for the end of a shortage, at most until its limit. After another error it returns at once. TrySend does not
// wait for the end of a shortage.
func TestSendWithinOutlastsAShortage(t *testing.T) {
	for _, c := range []struct {
		err   error
		lasts time.Duration
		want  error
	}{
		{syscall.ETOOMANYREFS, 40 * time.Millisecond, nil},
		{syscall.ENOBUFS, 40 * time.Millisecond, nil},
		{syscall.ENOMEM, 40 * time.Millisecond, nil},
		{syscall.ETOOMANYREFS, 60 * time.Millisecond, syscall.ETOOMANYREFS},
		{syscall.EPIPE, time.Millisecond, syscall.EPIPE},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			w := &shortWire{err: c.err, until: begun.Add(c.lasts), end: make(chan struct{})}
			l := NewLink(w)
			defer l.Close()
			if err := l.TrySend(KindConn, nil, nil, 0); !errors.Is(err, c.err) || w.tries != 1 {
				t.Errorf("%v: TrySend: %v after %d tries", c.err, err, w.tries)
			}
			err := l.SendWithin(KindConn, nil, nil, 50*time.Millisecond)
			if !errors.Is(err, c.want) || time.Since(begun) > 51*time.Millisecond {
				t.Errorf("%v for %v: %v after %v, want %v", c.err, c.lasts, err, time.Since(begun), c.want)
			}
		})
	}
}

// Close ends a call of SendWithin that waits for the end of a shortage.
func TestCloseEndsSendWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		l := NewLink(&shortWire{err: syscall.ENOMEM, until: begun.Add(time.Hour), end: make(chan struct{})})
		failed := make(chan error, 1)
		go func() { failed <- l.SendWithin(KindConn, nil, nil, time.Hour) }()
		synctest.Wait()
		l.Close()
		if err := <-failed; !errors.Is(err, syscall.ENOMEM) || time.Since(begun) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}
