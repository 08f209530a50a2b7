//go:build linux

package supervisor

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// idle is a supervisor that has started nothing.
func idle(t *testing.T) *supervisor {
	t.Helper()
	o := Config{Timeout: time.Minute, AbortGrace: 30 * time.Second, Guard: time.Minute, MaxRestarts: 5}
	s := &supervisor{opts: o, log: slog.New(slog.DiscardHandler), gens: map[int]*generation{}, deaths: make(chan *generation), quit: make(chan struct{}), store: &store{}}
	t.Cleanup(func() {
		close(s.quit)
		for _, g := range s.gens {
			g.proc.Close()
		}
	})
	return s
}

// self is this process as a generation: one that lives.
func (s *supervisor) self(t *testing.T) *generation {
	t.Helper()
	g, err := s.track(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The main generation moves forward by its number, and a word that comes late changes nothing. Two of the same number are
// one too many.
func TestMainGenerationMovesForward(t *testing.T) {
	s := idle(t)
	m := s.self(t)
	m.number, m.ready, m.isMain = 5, true, true
	other := &generation{pid: 1}
	for _, c := range []struct {
		what    string
		main    *generation
		claim   claim
		by      *generation
		verdict verdict
	}{
		{"nobody serves", nil, claim{pid: 1, number: 2}, other, leads},
		{"the main generation itself", m, claim{pid: m.pid, number: 5}, m, leads},
		{"a later one", m, claim{pid: 1, number: 6}, other, leads},
		{"much later", m, claim{pid: 1, number: 9}, other, leads},
		{"an earlier one", m, claim{pid: 1, number: 4}, other, late},
		{"one that does not say", m, claim{pid: 1}, other, late},
		{"the same number", m, claim{pid: 1, number: 5}, other, rival},
		{"one that has handed over", nil, claim{pid: 1, number: 6}, &generation{pid: 1, left: true}, late},
		{"the parent of the claimant", m, claim{pid: childOf(t), number: 1}, other, leads},
	} {
		s.main = c.main
		if got := s.judge(c.claim, c.by); got != c.verdict {
			t.Errorf("%s: verdict %d, want %d", c.what, got, c.verdict)
		}
	}
}

// childOf starts a process that is a child of this one.
func childOf(t *testing.T) int {
	t.Helper()
	p, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Kill()
		_, _ = p.Wait()
	})
	testutil.Until(t, 10*time.Second, "it is executed", func() bool { // the start returns a little before
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid))
		return err == nil && string(args) == "sleep\x0060\x00"
	})
	return p.Pid
}

// The restarts after crashes in a row are immediate at first and then further and further apart, up to the limit; a build
// that has run for its guard time begins anew.
func TestRestartsWaitLongerAndLonger(t *testing.T) {
	s := idle(t)
	s.opts.MaxRestarts = 12
	s.crashed = &generation{ready: true}
	now := time.Now()
	var pauses []time.Duration
	for range s.opts.MaxRestarts {
		s.crashed.since = now
		s.schedule(now)
		s.crashes = s.row // as a restart would
		pauses = append(pauses, s.restartAt.Sub(now))
	}
	want := []time.Duration{0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000, 10000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !slices.Equal(pauses, want) {
		t.Errorf("%v, want %v", pauses, want)
	}
	s.crashed.since = now.Add(-s.opts.Guard)
	if s.schedule(now); s.row != 0 || !s.restartAt.Equal(now) {
		t.Errorf("after a good time: %d crashes, restart in %v", s.row, s.restartAt.Sub(now))
	}
	s.crashes = s.opts.MaxRestarts
	s.crashed = &generation{since: now.Add(-time.Hour), known: true, status: 3 << 8} // it never served
	if s.schedule(now); !s.ending || s.code != 3 {
		t.Errorf("over the limit: ending %v with %d", s.ending, s.code)
	}
}

// The exit code is the one of the main generation, as a shell has it.
func TestExitCodes(t *testing.T) {
	for what, c := range map[string]struct {
		g    generation
		code int
		says string
	}{
		"exited":                {generation{known: true, status: 7 << 8}, 7, "exit status 7"},
		"killed":                {generation{known: true, status: unix.WaitStatus(unix.SIGKILL)}, 137, "signal: killed"},
		"unknown":               {generation{}, 1, "unknown"},
		"unknown, it stopped":   {generation{stopping: true}, 0, "unknown"},
		"unknown, it was told":  {generation{told: true}, 0, "unknown"},
		"known, and it stopped": {generation{stopping: true, known: true, status: 1 << 8}, 1, "exit status 1"},
	} {
		if got := c.g.exitCode(); got != c.code {
			t.Errorf("%s: %d, want %d", what, got, c.code)
		}
		if got := c.g.describe(); !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", what, got, c.says)
		}
	}
}

// The end of the main generation is the end of the service if it has said so, or was told to, also by a signal that did
// not come through the supervisor and was faster than its word. Everything else is a crash.
func TestOnlyCrashesAreMended(t *testing.T) {
	for what, c := range map[string]struct {
		g    generation
		ends bool
	}{
		"it said that it stops":   {generation{stopping: true}, true},
		"it was told to":          {generation{told: true}, true},
		"a second SIGINT":         {generation{known: true, status: unix.WaitStatus(unix.SIGINT)}, true},
		"SIGTERM":                 {generation{known: true, status: unix.WaitStatus(unix.SIGTERM)}, true},
		"SIGKILL":                 {generation{known: true, status: unix.WaitStatus(unix.SIGKILL)}, false},
		"SIGSEGV":                 {generation{known: true, status: unix.WaitStatus(unix.SIGSEGV)}, false},
		"exit status 2":           {generation{known: true, status: unix.WaitStatus(unix.SIGINT) << 8}, false},
		"nobody knows its status": {generation{}, false},
	} {
		s := idle(t)
		s.everMain, s.opts.MaxRestarts = true, 10
		c.g.pid, c.g.ready = childOf(t), true
		s.lost(&c.g)
		if s.ending != c.ends || (s.crashed == nil) != c.ends {
			t.Errorf("%s: ending %v, crashed %v", what, s.ending, s.crashed != nil)
		}
	}
}

// listeningFile is a listening socket with a name.
func listeningFile(t *testing.T, name string) *os.File {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fd, _, err := sys.Duplicate(ln.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

// The store holds each socket once, by its inode, and forgets by name.
func TestStoreHoldsEachSocketOnce(t *testing.T) {
	web := listeningFile(t, "web")
	again, err := sys.DupFile(web)
	if err != nil {
		t.Fatal(err)
	}
	s := newStore([]*os.File{web})
	if !s.add("midair.web", again) || len(s.all) != 1 || s.all[0].name != "web" {
		t.Errorf("%d entries", len(s.all))
	}
	if _, err := again.Stat(); err == nil {
		t.Error("the duplicate is open")
	}
	if !s.add("admin", listeningFile(t, "x")) || len(s.all) != 2 {
		t.Errorf("%d entries", len(s.all))
	}
	s.remove("nothing")
	s.remove("web")
	if _, err := web.Stat(); err == nil || len(s.all) != 1 {
		t.Errorf("after the removal: %d entries, %v", len(s.all), err)
	}
	s.close()
	if len(s.all) != 0 {
		t.Error("not empty after close")
	}
}

// Only generations and their successors may speak: a message of another process changes nothing.
func TestStrangersAreNotHeard(t *testing.T) {
	s := idle(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := &message{pid: os.Getpid(), lines: []string{sdnotify.WordStore, sdnotify.WordName + "x", sdnotify.WordReady, sdnotify.WordStopping}, files: []*os.File{r}}
	s.hear(m)
	m.close()
	if s.main != nil || s.everMain || len(s.store.all) != 0 || len(s.gens) != 0 {
		t.Error("a stranger was heard")
	}
	if _, err := r.Stat(); err == nil {
		t.Error("its descriptor is open")
	}
	g := s.self(t) // a generation, which is not the main one
	for _, text := range []string{sdnotify.WordStopping, sdnotify.WordAlive, sdnotify.WordExtend + "1"} {
		s.hear(&message{pid: g.pid, lines: []string{text}})
	}
	if g.stopping || !g.silent.IsZero() || !g.due.IsZero() {
		t.Errorf("one that is not the main generation was heard: %+v", g)
	}
}

// Messages are read whole, with their sender and descriptors, and an empty inbox says so.
func TestInboxReadsMessages(t *testing.T) {
	b, err := newInbox("@midair-test-" + t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	t.Setenv(sdnotify.NotifyEnv, "@midair-test-"+t.Name())
	n := sdnotify.New(slog.Default())
	defer n.Close()
	if _, ok := b.next(); ok {
		t.Error("there is something")
	}
	n.Store("web", listeningFile(t, "web"))
	n.Say("A=1", "B=two words", "A=2")
	<-b.readable
	n.Close() // which sends what is left
	first, ok1 := b.next()
	second, ok2 := b.next()
	_, more := b.next()
	b.read <- struct{}{}
	defer first.close()
	if !ok1 || first.pid != os.Getpid() || len(first.files) != 1 || !first.has(sdnotify.WordStore) || first.value(sdnotify.WordName) != "web" {
		t.Errorf("the first is %+v", first)
	}
	if !ok2 || second.value("A=") != "1" || second.value("B=") != "two words" || second.value("C=") != "" || more {
		t.Errorf("the second is %+v, more %v", second, more)
	}
}

// What a process runs is held by descriptor, arguments and environment, without what is between supervisor and generation.
func TestBuildIsHeld(t *testing.T) {
	t.Setenv("MIDAIR_TEST_MARK", "1")
	pid := childOf(t)
	b, err := process.BuildOf(pid, "v1")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !slices.Equal(b.Args, []string{"sleep", "60"}) || !slices.Contains(b.Env, "MIDAIR_TEST_MARK=1") || b.Version != "v1" {
		t.Errorf("%q, %d variables, %s", b.Args, len(b.Env), b.Version)
	}
	other, err := process.BuildOf(os.Getpid(), "v2")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if b.Same(other) || !b.Same(b) {
		t.Error("which builds are the same is not known")
	}
	if _, err := process.BuildOf(1<<22+1, ""); err == nil {
		t.Error("the build of no process")
	}
	if belongs(pid) || process.ParentOf(pid) != os.Getpid() {
		t.Errorf("a process that nobody has started as a successor: belongs %v, parent %d", belongs(pid), process.ParentOf(pid))
	}
	env := withoutPrivate([]string{"A=1", sdnotify.NotifyEnv + "=x", sdnotify.SupervisorEnv + "=1", process.Sentinel + "=yes", "LISTEN_FDS=1", "LISTEN_PIDS=1", outcomeEnv + "={}"})
	if !slices.Equal(env, []string{"A=1", "LISTEN_PIDS=1"}) {
		t.Errorf("%q", env)
	}
}
