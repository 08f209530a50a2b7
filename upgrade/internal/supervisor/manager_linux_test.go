package supervisor

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// The end of a silent generation and the start of the next one may take longer than the manager's watchdog allows: the
// supervisor answers the watchdog during this time, from its first moment on. A generation that serves answers the watchdog
// itself.
func TestManagerIsAnsweredWhileASilentGenerationEnds(t *testing.T) {
	addr := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	manager, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv(sdnotify.NotifyEnv, addr.Name)
	t.Setenv(sdnotify.WatchdogEnv, "3000000")
	s := idle(t)
	s.manager.up = sdnotify.New(s.log)
	defer s.manager.up.Close()
	s.opts.Watchdog = s.manager.watchdog(0)
	now := time.Now()
	s.leads(s.heir(t))
	s.phase, s.main.aliveBy = running, now.Add(time.Second)
	if s.tick(now); !s.manager.beatDue.IsZero() {
		t.Error("it answers for a generation that serves")
	}
	s.tick(now.Add(time.Second))
	if s.main.state != hung || s.manager.beatDue.IsZero() {
		t.Errorf("the silent generation is %v, the next answer is due at %v", s.main.state, s.manager.beatDue)
	}
	buf := make([]byte, 64)
	if err := manager.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := manager.Read(buf); err != nil || string(buf[:n]) != sdnotify.WordAlive {
		t.Errorf("the manager received %q, %v", buf[:n], err)
	}
	later := now.Add(time.Minute)
	s.main.state = starting
	if s.manager.beat(later, s.isMending()); !s.manager.beatDue.After(later) {
		t.Error("it does not answer while the next generation starts")
	}
}
