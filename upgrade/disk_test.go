//go:build unix

package upgrade

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// hangs returns a function that closes begun and then waits for goOn, as a write waits for a file system that does not answer.
func hangs() (fn func(), begun, goOn chan struct{}) {
	begun, goOn = make(chan struct{}), make(chan struct{})
	return func() { close(begun); <-goOn }, begun, goOn
}

// A disk that does not answer does not delay the loop. The try to write goes on in another goroutine, no second try begins,
// and end waits for the try.
func TestHangingDiskHoldsUpNoLoop(t *testing.T) {
	var r retries
	fn, begun, goOn := hangs()
	r.try(fn) // returns at once, so that the loop goes on
	<-begun
	if r.next(true) != nil {
		t.Error("a second try is due beside the first")
	}
	ended := make(chan struct{})
	go func() { r.end(time.Minute); close(ended) }()
	select {
	case <-ended:
		t.Error("the end does not wait")
	case <-time.After(20 * time.Millisecond):
	}
	close(goOn)
	<-ended
}

// An upgrade waits until this process no longer writes its files, because the candidate writes them from the commit on. An
// abort ends the wait. Options.Timeout ends the wait, too, with an error that names the path.
func TestUpgradeWaitsForAWriteUnderWay(t *testing.T) {
	a := saying(t)
	writes := make(chan struct{})
	a.writes = writes
	a.stage, a.opts.Timeout, a.opts.PIDFile = atSaving, 20*time.Millisecond, "/run/x/pid"
	look := func() news { w := a.begin(); return a.next(&w) }
	if err := a.why(look()); err == nil || !strings.Contains(err.Error(), "/run/x/pid") {
		t.Errorf("%v", err)
	}
	a.opts.Timeout = time.Minute
	ctx, abort := context.WithCancelCause(t.Context())
	a.ctx = ctx
	abort(errors.New("by hand"))
	if err := a.why(look()); !errors.Is(err, ErrAborted) {
		t.Errorf("%v", err)
	}
	close(writes)
	a.ctx = t.Context()
	if n := look(); n.event != evFinished {
		t.Errorf("%+v", n)
	}
}

// drop gives up the reserve of descriptors without waiting for a function that uses the reserve: a stop waits neither for a
// start nor for a disk.
func TestReserveIsDroppedAtOnce(t *testing.T) {
	m := room{hold: func() func() { return func() {} }}
	m.fill(2)
	fn, begun, goOn := hangs()
	used := make(chan struct{})
	go func() { m.with(fn); close(used) }()
	<-begun
	m.drop()
	close(goOn)
	<-used
	if m.held.Len() != 0 {
		t.Errorf("%d are held after drop", m.held.Len())
	}
}

// A file system that does not answer when an attempt ends holds up neither the loop nor the end of the process. The next attempt
// does not begin beside the write that goes on.
func TestEndOfAnAttemptWaitsForNoFile(t *testing.T) {
	var log bytes.Buffer
	g, end := inState(t, genServing, &log)
	a, answer := newAttempt(t.Context(), g.parts, modeUpgrade), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(answer) })
	a.files.Go(func() { <-answer })
	defer end()
	defer goOn()
	g.begin(a, nil)
	select {
	case e := <-g.attemptEnded:
		g.attempted(e)
	case <-time.After(10 * time.Second):
		t.Fatal("the end of the attempt waits for the file system")
	}
	if g.retries.next(true) != nil || g.retries.end(time.Millisecond) {
		t.Error("the write is not known")
	}
	g.begin(newAttempt(t.Context(), g.parts, modeUpgrade), nil)
	select {
	case <-g.attemptEnded:
		t.Fatal("the next attempt does not wait")
	case <-time.After(100 * time.Millisecond):
	}
	goOn()
	g.attempted(<-g.attemptEnded)
	if !g.retries.end(time.Minute) {
		t.Error("the end of the write is not noticed")
	}
}
