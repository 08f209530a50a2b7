//go:build unix

package listener

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// removal makes a set that removes paths when sockets are closed, on a file system that does not answer until goOn is closed.
func removal(t *testing.T) (s *Set, removing, goOn chan struct{}) {
	t.Helper()
	s, _ = newSet(t, nil)
	s.UnlinkOnClose(true)
	removing, goOn = make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(removing) })
	s.paths.remove = func(path string, l wire.PathLink) {
		begin()
		<-goOn
		removePath(path, l)
	}
	return s, removing, goOn
}

// mustEnd fails the test if fn waits.
func mustEnd(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { fn(); close(done) }() // ends with fn
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Errorf("%s waits", what)
	}
}

// waits fails the test if fn does not wait. The returned channel is closed when fn has returned.
func waits(t *testing.T, what string, fn func()) (done chan struct{}) {
	t.Helper()
	done = make(chan struct{})
	go func() { fn(); close(done) }() // ends after goOn
	select {
	case <-done:
		t.Errorf("%s does not wait", what)
	case <-time.After(50 * time.Millisecond):
	}
	return done
}

// While a path is being removed, on a file system that does not answer, nothing waits that the loop of Run calls. A socket at
// the same path is opened after the removal, and keeps its path.
func TestRemovalOfAPathHoldsUpNobody(t *testing.T) {
	s, removing, goOn := removal(t)
	path := socketPath(t)
	tcp := listen(t, s, "tcp", "127.0.0.1:0", false)
	old := listen(t, s, "unix", path, false)
	closed := make(chan struct{})
	go func() { old.Close(); close(closed) }() // ends after goOn
	<-removing
	for what, fn := range map[string]func(){
		"Pause":           func() { s.Pause(true) },
		"Open":            func() { s.Open(true) },
		"UnlinkOnClose":   func() { s.UnlinkOnClose(true) },
		"Follow":          func() { s.Follow(nil, nil) },
		"Refs":            func() { s.Refs() },
		"BeginListening":  func() { _ = s.BeginListening() },
		"a TCP listener":  func() { listen(t, s, "tcp", "127.0.0.1:0", false).Close() },
		"Close of TCP":    func() { tcp.Close() },
		"setting of keep": func() { s.KeepClosed(false) },
	} {
		mustEnd(t, what, fn)
	}
	var again net.Listener
	var err error
	opened := waits(t, "Listen", func() { again, err = s.Listen("unix", path, false) })
	awaited := waits(t, "AwaitRemoval", s.AwaitRemoval)
	close(goOn)
	<-closed
	<-awaited
	if <-opened; err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !exists(path) || refused(t, again) {
		t.Error("the path of the new socket was removed")
	}
}

// The end of received sockets that were not opened waits for no file system.
func TestDropRestHoldsUpNobody(t *testing.T) {
	old, _ := newSet(t, nil)
	path := socketPath(t)
	listen(t, old, "unix", path, false)
	s, removing, goOn := removal(t)
	handOn(t, old, s)
	mustEnd(t, "DropRest", s.DropRest)
	<-removing
	closed := waits(t, "ReleaseAll", s.ReleaseAll)
	close(goOn)
	<-closed
	if exists(path) {
		t.Error("the path is there")
	}
}
