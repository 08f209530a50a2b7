//go:build unix

package upgrade

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A stop that comes while a new main generation writes its files waits until the old process is told that this process serves.
// Otherwise the old process would take the end of this process for a failed commit, and the service would serve on.
func TestStopWaitsUntilTheCommitIsTold(t *testing.T) {
	var log bytes.Buffer
	g, end := inState(t, genServing, &log)
	defer end()
	told := &telling{}
	g.tellings.all = append(g.tellings.all, told)
	told.written = make(chan struct{})
	g.stop(errors.New("SIGTERM"))
	if g.state != genServing {
		t.Fatalf("the state is %v while the files are being written", g.state)
	}
	g.fire(onWritten, detail{telling: told})
	if g.state != genStopping || g.ending != nil {
		t.Errorf("the state is %v after the files are written, waiting for %v", g.state, g.ending)
	}
	if g.stop(errors.New("SIGINT")); g.state != genStopping {
		t.Errorf("a second stop has led to %v", g.state)
	}
}

// A file system that does not answer holds up a stop for a second.
func TestStopDoesNotWaitForAFileSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTellings()
		s.all = []*telling{{written: make(chan struct{})}}
		if !s.holdStop() {
			t.Fatal("the stop does not wait for the files")
		}
		begun := time.Now()
		<-s.stopDue
		if s.holdStop() || time.Since(begun) != fileWait {
			t.Errorf("the stop waits for more than %v", fileWait)
		}
	})
}
