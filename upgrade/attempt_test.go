//go:build unix

package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// listening returns an Upgrader with one listener. It also returns a connection that another generation has moved to the
// Upgrader, with the unread bytes in ahead.
func listening(t *testing.T, ahead string) (*Upgrader, net.Conn) {
	t.Helper()
	u, err := NewUnsupported(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := u.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	far, file, err := sys.UnixPair()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c, err := handoff.NewConn(file, wire.ConnBody{Network: "tcp", Addr: "127.0.0.1:0", Ahead: []byte(ahead)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); far.Close(); c.Close() })
	return u, c
}

// If a candidate ends and so cannot be announced to the supervisor, its end is the reason of the failure. The candidate is
// reaped before this process has its status.
func TestEndBeforeTheAnnouncementIsTheReason(t *testing.T) {
	full := errors.New("no descriptors")
	for _, c := range []struct {
		unannounced error
		exited      bool
		want        error
	}{
		{nil, false, nil}, {full, false, full}, {full, true, nil},
		{fmt.Errorf("told: %w", sys.Explain(errors.Join(nil, os.ErrProcessDone))), false, nil},
	} {
		a := attemptWith(t)
		if a.child.unannounced = c.unannounced; c.exited {
			close(a.child.Child.Exited)
		}
		if err := a.child.unknown(); err != c.want {
			t.Errorf("%v, exited %v: %v", c.unannounced, c.exited, err)
		}
	}
}

// moverFunc is a Mover with a function as its method Move.
type moverFunc func(listener.Origin, net.Conn, []byte) bool

func (f moverFunc) Move(o listener.Origin, c net.Conn, ahead []byte) bool { return f(o, c, ahead) }
func (moverFunc) Stop()                                                   {}

// If a connection moves on, its unread bytes move with it, after the bytes that the program adds.
func TestUnreadBytesMoveOn(t *testing.T) {
	u, c := listening(t, "brought")
	var got string
	u.traffic.setMover(moverFunc(func(_ listener.Origin, _ net.Conn, ahead []byte) bool { got = string(ahead); return true }))
	if _, err := c.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	for added, want := range map[string]string{"": "ught", "added, ": "added, ught"} {
		if !u.MoveWith(c, []byte(added)) || got != want {
			t.Errorf("with %q it moves with %q, want %q", added, got, want)
		}
	}
	if u.MoveWith(c, make([]byte, prefixLimit)) {
		t.Error("it moves with more than the limit")
	}
	_, empty := listening(t, "")
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if !u.HasCarriedBytes(c) || u.HasCarriedBytes(empty) || u.HasCarriedBytes(near) {
		t.Error("HasCarriedBytes does not report the connection with bytes")
	}
}

// A candidate sends the message serving only after all connections that go back were sent: after serving, the old process may
// end.
func TestServingIsSaidAfterWhatComesBack(t *testing.T) {
	u, c := listening(t, "")
	began, sent, said := make(chan struct{}), false, false
	u.traffic.setMover(moverFunc(func(listener.Origin, net.Conn, []byte) bool {
		close(began)
		<-time.After(20 * time.Millisecond) // a move takes its time
		sent = true
		return true
	}))
	u.origin.old, u.origin.link = oldMidair, wire.NewLink(&wiretest.Transport{Sent: func(b []byte) {
		if said = wire.Kind(b[4]) == wire.KindServing; said && !sent {
			t.Error("one is still on its way")
		}
	}})
	go u.Move(c) // the message serving waits for this move
	<-began
	g := newGeneration(&u.parts)
	g.fire(onCommit, detail{frame: wire.Frame{Kind: wire.KindCommit}})
	g.fire(onWritten, detail{telling: <-g.tellings.written})
	if g.hasTold(<-g.tellings.ended); !said {
		t.Error("it did not say that it serves")
	}
	u.origin.link.Close()
}

// If a candidate has sent hello and has ended, hello is handled before the end: the candidate has got further than its start.
func TestHelloIsHeardBeforeTheEnd(t *testing.T) {
	hello, err := wire.Encode(wire.KindHello, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 { // select chooses any of the events that are ready
		a := attemptOf(t, &Upgrader{}, atStarting)
		l := wire.NewLink(&wiretest.Transport{Pieces: [][]byte{hello}})
		for len(l.Frames) == 0 {
			runtime.Gosched()
		}
		a.child = &child{link: l, Child: &process.Child{Exited: make(chan struct{})}}
		a.received.frames = l.Frames
		close(a.child.Exited)
		if n := a.next(&await{want: wire.KindHello}); n.event != evAnswered || n.frame.Kind != wire.KindHello {
			t.Fatalf("%+v", n)
		}
		l.Close()
	}
}

// The last message of a dead candidate is the reason of the failure, and not the error of a message to the candidate.
func TestLastWordsAreTheReason(t *testing.T) {
	b, err := wire.Encode(wire.KindFailed, wire.FailedBody{Phase: "check", Reason: "I do not like it"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	a := attemptOf(t, &Upgrader{parts{opts: Options{Silence: time.Minute}}}, atSoaking)
	a.child = &child{link: wire.NewLink(&deadTransport{wiretest.Transport{Pieces: [][]byte{b}}}), Child: &process.Child{Exited: make(chan struct{})}}
	a.received.frames = a.child.link.Frames
	if err := a.send(wire.KindOpen, nil); err == nil || err.Error() != "I do not like it" {
		t.Errorf("the reason is %v", err)
	}
	a.child.link.Close()
}

// If Release does not return in time, Acquire waits for it. Otherwise the resource could be acquired and released in any
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
		if err := s.acquire(ctx, time.Minute); err == nil || !strings.Contains(err.Error(), "goes on") {
			t.Errorf("acquire in vain: %v", err)
		}
		if err := s.acquire(t.Context(), time.Minute); err != nil || released == 0 || acquired < released {
			t.Errorf("acquire: %v after %v, the release ended after %v", err, acquired, released)
		}
	})
}

// The file that Verify has seen is closed if the attempt ends before the start of the program.
func TestProgramIsClosedWithoutAStart(t *testing.T) {
	if !process.CanRunDescriptor {
		t.Skip("the file is not kept open")
	}
	for _, when := range []string{"in Verify", "after Verify"} {
		a := attemptAt(t, atChoosing)
		seen, goOn := make(chan string, 1), make(chan struct{})
		a.opts.Executable, a.opts.AllowWrapper = "/bin/sleep", true
		a.opts.Verify = func(path string) error { seen <- path; <-goOn; return nil }
		w := a.begin()
		path := <-seen
		file, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		if when == "after Verify" {
			close(goOn)
			<-a.program.done
		}
		a.abort(errors.New("by hand"))
		if a.step(a.next(&w)); a.stage != atDismissing {
			t.Fatalf("%s: now %v", when, a.stage)
		}
		if when == "in Verify" {
			close(goOn)
		}
		testutil.Until(t, 2*time.Second, "the file is closed after an abort "+when, func() bool {
			now, _ := os.Readlink(path)
			return now != file
		})
	}
}

// If the old process cannot read a candidate's messages, the candidate waits for no answer when it is taken back. This also
// holds if the judge is the reason.
func TestUnreadableCandidateWaitsForNoAnswer(t *testing.T) {
	a := attemptAt(t, atBaking)
	l := wire.NewLink(&wiretest.Transport{Pieces: [][]byte{[]byte("no frame, but long enough for a header")}})
	defer l.Close()
	a.child.link, a.received.frames = l, l.Frames
	said := errors.New("the judge says no")
	a.work = newWork("Bake", func() {}, nil, func() error { return said })
	if a.step(news{event: evFailed, err: said}); a.stage != atDismissing || !errors.Is(a.dismissal.cause, said) {
		t.Fatalf("%v: %v", a.stage, a.dismissal)
	}
	if a.dismissal.dismiss(); !errors.Is(l.Broken, wire.ErrFrame) || !a.dismissal.body.Stopping {
		t.Errorf("the socket is broken: %v, and the candidate is to wait: %v", l.Broken, !a.dismissal.body.Stopping)
	}
}

// A process that has released a resource that it needs to serve does not accept again if the service stops.
func TestStopDoesNotServeWithoutWhatWasReleased(t *testing.T) {
	for _, stops := range []bool{false, true} {
		a := attemptAt(t, atReacquiring)
		a.estate.resources.all = append(a.estate.resources.all, &resource{name: "it"})
		ln, err := a.estate.listeners.Listen("tcp", "127.0.0.1:0", false)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan struct{})
		go func() { // ends with the listener
			if c, err := ln.Accept(); err == nil {
				c.Close()
				close(accepted)
			}
		}()
		if stops {
			a.tryAbort(errors.New("SIGTERM"), true)
		}
		a.dismissal.failedAt = atCommitting
		a.dismissal.reopen()
		select {
		case <-accepted:
			if stops {
				t.Error("it accepts")
			}
		case <-time.After(200 * time.Millisecond):
			if !stops {
				t.Error("it does not accept again")
			}
		}
		c.Close()
		ln.Close()
	}
}

// A stop of the service ends the wait for a resource, and the log does not say that the process serves without it.
func TestStopEndsReacquire(t *testing.T) {
	var log bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	s := &resources{all: []*resource{{name: "it", Resource: Resource{
		Acquire: func(ctx context.Context) error { stop(); <-ctx.Done(); return ctx.Err() },
	}}}}
	err := s.reacquire(ctx, time.Minute, slog.New(slog.NewTextHandler(&log, nil)))
	if !errors.Is(err, context.Canceled) || log.Len() > 0 {
		t.Errorf("%v, and the log:\n%s", err, log.String())
	}
}

// lookAfter calls next after the work has ended. Of several events that are ready, next may find any one first, so the caller
// repeats the test.
func (a *attempt) lookAfter(w await) news {
	<-w.work.done
	return a.next(&w)
}

// An abort is reported as an abort, even if a function of the program has already returned the error of its context.
func TestAbortIsAnAbortAlsoIfTheProgramSeesItFirst(t *testing.T) {
	for name, begin := range map[string]func(a *attempt, fn func(context.Context) error) await{
		"Bake": func(a *attempt, fn func(context.Context) error) await {
			a.stage = atBaking
			return a.ask("Bake", func(ctx context.Context, _ *Candidate) error { return fn(ctx) })
		},
		"Release": func(a *attempt, fn func(context.Context) error) await {
			a.stage, a.opts.Timeout = atReleasing, time.Minute
			a.estate.resources.all = []*resource{{name: "lock", held: true, Resource: Resource{Release: fn, Background: true}}}
			return a.release()
		},
	} {
		for range 50 {
			a := saying(t)
			var abort context.CancelCauseFunc
			a.ctx, abort = context.WithCancelCause(t.Context())
			n := a.lookAfter(begin(a, func(ctx context.Context) error {
				abort(errors.New("by hand"))
				return ctx.Err()
			}))
			if err := a.why(n); !errors.Is(err, ErrAborted) || !strings.Contains(err.Error(), "by hand") {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// If the candidate ends, its end is the reason, even if the judge has seen an error of its connection first.
func TestEndOfTheCandidateIsTheReasonAlsoIfTheJudgeSeesItFirst(t *testing.T) {
	lost := errors.New("connection reset by peer")
	for range 50 {
		a := saying(t)
		a.child.link.Close() // as its end does
		a.stage, a.child.Status = atSmoking, "exit status 7"
		exited := make(chan struct{})
		a.child.Exited = exited
		n := a.lookAfter(a.ask("Smoke", func(context.Context, *Candidate) error {
			close(exited)
			return lost
		}))
		if err := a.why(n); !errors.As(err, new(*exitError)) || !strings.HasPrefix(err.Error(), "it ended: exit status 7") {
			t.Fatal(err)
		}
	}
}
