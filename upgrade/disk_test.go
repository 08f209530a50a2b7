//go:build unix

package upgrade

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// hangs is a function that takes as long as the test likes, like a write to a file system that does not answer.
func hangs() (fn func(), begun, goOn chan struct{}) {
	begun, goOn = make(chan struct{}), make(chan struct{})
	return func() { close(begun); <-goOn }, begun, goOn
}

// A disk that does not answer holds up no loop: a try goes on beside it, no second one begins, and the end waits for it.
func TestHangingDiskHoldsUpNoLoop(t *testing.T) {
	var r retries
	fn, begun, goOn := hangs()
	r.try(fn) // in the loop, which goes on
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

// An upgrade waits until this process does not write its files any more: the candidate writes them from the commit on. An abort
// ends that, and so does Timeout, with the path.
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

// The reserve of descriptors is given up without waiting for who uses it: a stop does not wait for a start, or for a disk.
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
