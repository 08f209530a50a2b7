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
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// A candidate may notice the death of the old process twice: when a message cannot be sent, and when the socket ends.
// Nevertheless it acquires its resources only once, because two calls at the same time would wait for each other.
func TestDeathThatShowsTwiceAcquiresOnce(t *testing.T) {
	u, err := NewUnsupported(Options{})
	if err != nil {
		t.Fatal(err)
	}
	u.Exclusive("lock", Resource{Acquire: func(ctx context.Context) error {
		<-ctx.Done() // another process holds the resource
		return context.Cause(ctx)
	}})
	u.origin.old, u.origin.link = oldMidair, wire.NewLink(&deadTransport{wiretest.Transport{}})
	defer u.origin.link.Close()
	g := newGeneration(&u.parts)
	g.result = checksPassed
	g.fire(onFailed, detail{phase: PhaseCommit, err: errors.New("the lock is not to be had")})
	first := g.acquiring
	defer first.stop()
	g.receiveOld(wire.Frame{}, false)
	if g.acquiring != first {
		t.Error("it acquires a second time beside the first")
		g.acquiring.stop()
		<-g.acquiring.done
	}
	first.stop()
	if err := <-first.done; !errors.Is(err, context.Canceled) {
		t.Errorf("acquire ends with %v", err)
	}
}

// If a check of a candidate fails after the death of the old process, the candidate serves, and logs the failure.
func TestFailedCheckIsLoggedIfNobodyElseServes(t *testing.T) {
	var log bytes.Buffer
	u, err := NewUnsupported(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	u.origin.old, u.origin.link = oldMidair, wire.NewLink(&deadTransport{wiretest.Transport{}})
	defer u.origin.link.Close()
	g := newGeneration(&u.parts)
	g.checked(errors.New("check database: no route to host"))
	endSending(g)
	logqueue.Flush(u.log)
	if g.state != genServing || !strings.Contains(log.String(), "serving although not everything is right") || !strings.Contains(log.String(), "no route to host") {
		t.Errorf("state %v:\n%s", g.state, log.String())
	}
}

// A candidate that fails after the death of the old process first reads the unread messages of that process. If a commit
// message is among them, the candidate is the service.
func TestFailureComesAfterACommitMessage(t *testing.T) {
	commit, err := wire.Encode(wire.KindCommit, wire.CommitBody{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, supervised := range map[string]bool{"supervised": true, "not supervised": false} {
		u, err := NewUnsupported(Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		u.origin.old, u.origin.link = oldMidair, wire.NewLink(&deadTransport{wiretest.Transport{Pieces: [][]byte{commit}}})
		g := newGeneration(&u.parts)
		g.supervised = supervised
		g.fire(onFailed, detail{phase: PhaseBake, err: errors.New("a message cannot be read")})
		if g.state != genServing || u.shown.status.Uncommitted || g.err != nil {
			t.Errorf("%s: state %v, uncommitted %v, error %v", name, g.state, u.shown.status.Uncommitted, g.err)
		}
		endSending(g)
		u.origin.link.Close()
	}
}

// An orphan that fails gives up at once, even if it already has a control socket to the process that will replace it: it does
// not wait for that process.
func TestFailureOfAnOrphanWaitsForNobody(t *testing.T) {
	u, err := NewUnsupported(Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	u.origin.old, u.origin.link = oldMidair, wire.NewLink(&deadTransport{wiretest.Transport{}})
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	g := newGeneration(&u.parts)
	g.supervised, g.endServe = true, func(error) {}
	g.fire(onNextSocket, detail{word: sdnotify.Message{Files: []*os.File{ours}}})
	ours.Close()
	wiretest.InTime(t, func() { g.fire(onFailed, detail{phase: PhaseBake, err: errors.New("a message cannot be read")}) })
	if g.state != genLeaving || g.err == nil {
		t.Errorf("state %v, error %v", g.state, g.err)
	}
	u.origin.link.Close()
}

// A process that is stopped before it has made itself known does not say afterwards that it serves.
func TestServingIsNotSaidAfterTheStop(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		var log bytes.Buffer
		g, end := inState(t, genStarting, &log)
		g.serveNow()
		written := <-g.tellings.written
		if stopped {
			g.shown.setState("stopping") // as stopService does while the telling is sent
		}
		g.fire(onWritten, detail{telling: written})
		end()
		if said := strings.Contains(log.String(), "upgrade: serving"); said == stopped {
			t.Errorf("stopped %v: the log says that it serves: %v", stopped, said)
		}
	}
}

// deadTransport is that of a process that is gone, after what it has said.
type deadTransport struct{ wiretest.Transport }

func (w *deadTransport) Send([]byte, []*os.File) error { return syscall.EPIPE }
