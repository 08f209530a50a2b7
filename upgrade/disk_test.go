//go:build unix

package upgrade

import (
	"context"
	"errors"
	"strings"
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
	go func() { r.end(); close(ended) }()
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
