//go:build unix

package upgrade

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// slowTransport is the transport to a process that sends one message after the time in the field after, and no other message.
type slowTransport struct {
	quietTransport
	after time.Duration
}

func (w *slowTransport) Recv(b []byte) (int, []*os.File, error) {
	if len(w.Pieces) > 0 {
		select {
		case <-time.After(w.after):
		case <-w.closed:
			return 0, nil, os.ErrClosed
		}
	}
	return w.quietTransport.Recv(b)
}

// New waits at most Options.Timeout for the old process, even if the sockets come late and the answer to hello does not come.
func TestNewWaitsOneTimeoutForTheOldProcess(t *testing.T) {
	const limit = time.Minute
	for name, after := range map[string]time.Duration{"sockets": 2 * limit, "answer": limit * 3 / 4} {
		t.Run(name, func(t *testing.T) {
			u, err := NewUnsupported(Options{Timeout: limit})
			if err != nil {
				t.Fatal(err)
			}
			b, err := wire.Encode(wire.KindListeners, wire.ListenersBody{}, 0)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				began, w := time.Now(), &slowTransport{after: after}
				w.Pieces, w.closed = [][]byte{b}, make(chan struct{})
				u.origin.link = wire.NewLink(w)
				err := (&joining{&u.origin, &u.estate}).meet()
				if waited := time.Since(began); waited != limit {
					t.Errorf("waited %v, want %v", waited, limit)
				}
				if err == nil || !strings.Contains(err.Error(), "within 1m0s") {
					t.Error(err)
				}
			})
		})
	}
}
