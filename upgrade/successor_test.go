//go:build unix

package upgrade

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// The death of the old process may show twice: a message cannot be sent, and the socket ends. The candidate that takes over
// acquires what it needs once: two calls at the same time would wait for each other.
func TestDeathThatShowsTwiceAcquiresOnce(t *testing.T) {
	u, err := NewUnsupported(Options{})
	if err != nil {
		t.Fatal(err)
	}
	u.Exclusive("lock", Resource{Acquire: func(ctx context.Context) error {
		<-ctx.Done() // somebody has it
		return context.Cause(ctx)
	}})
	u.parent = wire.NewLink(&deadTransport{wiretest.Transport{}})
	defer u.parent.Close()
	r := &runner{u: u, ready: true, parent: u.parent.Frames}
	r.fail(PhaseCommit, errors.New("the lock is not to be had"))
	first, giveUp := r.acquired, r.giveUp
	defer giveUp()
	r.heard(wire.Frame{}, false)
	if r.acquired != first {
		t.Error("it acquires a second time beside the first")
		r.giveUp()
		<-r.acquired
	}
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("acquire ends with %v", err)
	}
}

// A candidate whose check fails when the old process is dead already serves, and its log says what is wrong with it.
func TestFailedCheckIsLoggedIfNobodyElseServes(t *testing.T) {
	var log bytes.Buffer
	u, err := NewUnsupported(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	u.parent = wire.NewLink(&deadTransport{wiretest.Transport{}})
	defer u.parent.Close()
	r := &runner{u: u, parent: u.parent.Frames}
	r.isPrepared(errors.New("check database: no route to host"))
	logqueue.Flush(u.log)
	if !r.alone || r.role == roleLeaving || !strings.Contains(log.String(), "serving although not everything is right") || !strings.Contains(log.String(), "no route to host") {
		t.Errorf("alone %v, role %v:\n%s", r.alone, r.role, log.String())
	}
}

// deadTransport is that of a process that is gone, after what it has said.
type deadTransport struct{ wiretest.Transport }

func (w *deadTransport) Send([]byte, []*os.File) error { return syscall.EPIPE }
