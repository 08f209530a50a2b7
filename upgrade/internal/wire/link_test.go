package wire

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// slowWire is a transport that needs a while for each frame.
type slowWire struct {
	takes time.Duration
	end   chan struct{}
}

func (w *slowWire) Send([]byte, []*os.File) error            { time.Sleep(w.takes); return nil }
func (w *slowWire) TrySend([]byte, ...*os.File) error        { return nil }
func (w *slowWire) SendBy([]byte, *os.File, time.Time) error { return nil }
func (w *slowWire) Recv([]byte) (int, []*os.File, error)     { <-w.end; return 0, nil, io.EOF }
func (w *slowWire) Close() error                             { close(w.end); return nil }

// While another frame is sent, TrySend waits at most as long as its argument allows. For a connection it does not wait, because
// the accept loop would have to wait too.
func TestMessagesTakeTurns(t *testing.T) {
	const wait = time.Millisecond
	for _, c := range []struct {
		other, wait time.Duration
		want        error
	}{
		{wait / 2, wait, nil},
		{2 * wait, wait, errBusy},
		{wait / 2, 0, errBusy},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := NewLink(&slowWire{takes: c.other, end: make(chan struct{})})
			go func() { _ = l.Send(KindShut, nil) }()
			synctest.Wait()
			if err := l.TrySend(KindMessage, nil, nil, c.wait); !errors.Is(err, c.want) {
				t.Errorf("while another frame takes %v, with a wait of %v: %v, want %v", c.other, c.wait, err, c.want)
			}
			time.Sleep(c.other)
			synctest.Wait()
			if err := l.TrySend(KindMessage, nil, nil, 0); err != nil {
				t.Errorf("when it has gone: %v", err)
			}
			l.Close()
		})
	}
}

// Sent is true for the kinds for which Send was called, also if Send has failed.
func TestLinkKnowsWhatItHasSent(t *testing.T) {
	l := NewLink(&slowWire{end: make(chan struct{})})
	defer l.Close()
	for k := KindHello; k.Known(); k++ {
		if l.Sent(k) {
			t.Errorf("%v was sent before it was", k)
		}
		if err := l.Send(k, nil); err != nil || !l.Sent(k) {
			t.Errorf("%v was not sent: %v", k, err)
		}
	}
	if err := l.Send(Kind(77), nil); err != nil || l.Sent(78) {
		t.Errorf("what is not known: %v", err)
	}
}
