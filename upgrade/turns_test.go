package upgrade

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowWire takes its time for a frame.
type slowWire struct {
	takes time.Duration
	end   chan struct{}
}

func (w *slowWire) send([]byte, []*os.File) error        { time.Sleep(w.takes); return nil }
func (w *slowWire) trySend([]byte, *os.File) error       { return nil }
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
