//go:build linux

package supervisor

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"golang.org/x/sys/unix"
)

// idle is a supervisor that has started nothing.
func idle(t *testing.T) *supervisor {
	t.Helper()
	o := Config{Timeout: time.Minute, AbortGrace: 30 * time.Second, Guard: time.Minute, GiveUp: 5 * time.Minute}
	o.Logger = slog.New(slog.DiscardHandler)
	s := newSupervisor(o, nil, &store{}, nil)
	t.Cleanup(func() {
		s.reserve.Release()
		s.procs.close()
	})
	return s
}

// leads makes a process the main generation, number 5, which serves.
func (s *supervisor) leads(p *proc) {
	p.number, p.state, p.led = 5, serving, time.Now()
	s.main = p
}

// self is this process as a generation: one that lives. say is what it says on its channel.
func (s *supervisor) self(t *testing.T) (g *proc, say *os.File) {
	t.Helper()
	return s.generationOf(t, os.Getpid())
}

// generationOf is a process as a generation, and the other end of its channel.
func (s *supervisor) generationOf(t *testing.T, pid int) (g *proc, say *os.File) {
	t.Helper()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	proc, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	return s.procs.follow(proc, ours), theirs
}

// The main generation moves forward by its number, and a word that comes late changes nothing. Two of the same number are
// one too many.
func TestMainGenerationMovesForward(t *testing.T) {
	s := idle(t)
	m, _ := s.self(t)
	s.leads(m)
	other, child := &proc{pid: 1, handle: m.handle, state: candidate}, &proc{pid: 1, handle: m.handle, state: candidate, parent: m}
	for _, c := range []struct {
		what    string
		main    *proc
		number  int
		by      *proc
		verdict cell
	}{
		{"nobody serves", nil, 2, other, cell{lead, serving}},
		{"the main generation itself", m, 5, m, cell{reaffirm, serving}},
		{"a later one", m, 6, other, cell{lead, serving}},
		{"much later", m, 9, other, cell{lead, serving}},
		{"an earlier one", m, 4, other, cell{nothing, draining}},
		{"one that does not say", m, 0, other, cell{nothing, draining}},
		{"the same number", m, 5, other, cell{refuse, candidate}},
		{"one that has handed over", nil, 6, &proc{pid: 1, state: draining}, cell{nothing, draining}},
		{"one that it has announced", m, 1, child, cell{lead, serving}},
	} {
		s.main = c.main
		if do, next := c.by.state.step(s.judge(c.by, c.number)); do != c.verdict.do || next != c.verdict.next {
			t.Errorf("%s: %v, %v, want %v", c.what, do, next, c.verdict)
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
		if _, err := p.Wait(); err != nil { // the supervisor has reaped it
			_ = p.Release()
		}
	})
	testutil.Until(t, 10*time.Second, "it is executed", func() bool { // the start returns a little before
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid))
		return err == nil && string(args) == "sleep\x0060\x00"
	})
	return p.Pid
}

// The exit code is the one of the main generation, as a shell has it.
func TestExitCodes(t *testing.T) {
	for what, c := range map[string]struct {
		g    proc
		code int
		says string
	}{
		"exited":                {proc{known: true, status: 7 << 8}, 7, "exit status 7"},
		"killed":                {proc{known: true, status: unix.WaitStatus(unix.SIGKILL)}, 137, "signal: killed"},
		"unknown":               {proc{}, 1, "unknown"},
		"unknown, it stopped":   {proc{intent: announced}, 0, "unknown"},
		"unknown, it was told":  {proc{intent: asked}, 0, "unknown"},
		"known, and it stopped": {proc{intent: announced, known: true, status: 1 << 8}, 1, "exit status 1"},
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
		g    proc
		ends bool
	}{
		"it said that it stops":   {proc{intent: announced}, true},
		"it was told to":          {proc{intent: asked}, true},
		"a second SIGINT":         {proc{known: true, status: unix.WaitStatus(unix.SIGINT)}, true},
		"SIGTERM":                 {proc{known: true, status: unix.WaitStatus(unix.SIGTERM)}, true},
		"SIGKILL":                 {proc{known: true, status: unix.WaitStatus(unix.SIGKILL)}, false},
		"SIGSEGV":                 {proc{known: true, status: unix.WaitStatus(unix.SIGSEGV)}, false},
		"exit status 2":           {proc{known: true, status: unix.WaitStatus(unix.SIGINT) << 8}, false},
		"nobody knows its status": {proc{}, false},
	} {
		s := idle(t)
		s.phase = running
		c.g.pid, c.g.led = childOf(t), time.Now()
		s.lost(&c.g)
		if s.phase == ending != c.ends || (s.recovery.crashed == nil) != c.ends {
			t.Errorf("%s: ending %v, crashed %v", what, s.phase == ending, s.recovery.crashed != nil)
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
	if k, before := s.add("midair.web", again); k != &s.all[0] || before != "web" || len(s.all) != 1 || k.name != "web" {
		t.Errorf("%d entries, %v, before %q", len(s.all), k, before)
	}
	if _, err := again.Stat(); err == nil {
		t.Error("the duplicate is open")
	}
	if k, before := s.add("admin", listeningFile(t, "x")); k != &s.all[1] || before != "" || len(s.all) != 2 {
		t.Errorf("%d entries, %v, before %q", len(s.all), k, before)
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

// speak sends a message on a channel.
func speak(t *testing.T, channel *os.File, files []int, lines ...string) {
	t.Helper()
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	if err := unix.Sendmsg(int(sys.FD(channel)), []byte(strings.Join(lines, "\n")), rights, nil, 0); err != nil {
		t.Fatal(err)
	}
}

// What is said on the channel of a generation that is not the main one changes nothing for the service.
func TestOnlyTheMainGenerationSpeaksForTheService(t *testing.T) {
	s := idle(t)
	g, channel := s.self(t)
	speak(t, channel, nil, sdnotify.WordStopping)
	speak(t, channel, nil, sdnotify.WordAlive)
	speak(t, channel, nil, sdnotify.WordExtend+"1")
	s.receive()
	if g.intent != unintended || !g.aliveBy.IsZero() || !g.serveBy.IsZero() {
		t.Errorf("it was heard: %+v", g)
	}
}

// A generation that drains may say that it is the service, or that another process is: neither becomes the service.
func TestDrainingGenerationCannotBecomeTheService(t *testing.T) {
	s := idle(t)
	m, _ := s.self(t)
	s.leads(m)
	old, channel := s.generationOf(t, childOf(t))
	old.number, old.state = 4, draining
	speak(t, channel, nil, sdnotify.WordReady, sdnotify.WordGeneration+"1000")
	speak(t, channel, nil, sdnotify.WordReady, sdnotify.WordPID+"1")
	speak(t, channel, nil, sdnotify.WordReady, sdnotify.WordPID+strconv.Itoa(m.pid), sdnotify.WordGeneration+"7")
	s.receive()
	if s.main != m || m.number != 5 || len(s.procs.all) != 2 {
		t.Errorf("the main generation is %+v", s.main)
	}
}

// announcement is what a generation says of a process, with a duplicate of every descriptor that goes along.
func announcement(t *testing.T, pid int) (files []*os.File) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	args, err := state.WriteBuild(&process.Build{Args: []string{"a"}, Env: []string{"B=1"}, Version: "v9"})
	if err != nil {
		t.Fatal(err)
	}
	files = []*os.File{os.NewFile(uintptr(fd), "pidfd"), ours, exe, args, theirs}
	t.Cleanup(func() {
		for _, f := range files {
			f.Close()
		}
	})
	return files
}

func numbers(files []*os.File) (fds []int) {
	for _, f := range files {
		fds = append(fds, int(sys.FD(f)))
	}
	return fds
}

// A candidate exists for the supervisor when it was announced, with its build; then its channel counts, and it may become
// the service. Whatever is announced without all that belongs to it is not followed, and nothing of it stays open.
func TestCandidatesAreAnnounced(t *testing.T) {
	s := idle(t)
	m, channel := s.self(t)
	s.leads(m)
	own, err := process.Own("v8")
	if err != nil {
		t.Fatal(err)
	}
	s.recovery.builds.last = own
	pid := childOf(t)
	s.reserve.Fill(reserved)
	before := len(testutil.OpenFDs()) - 1 // own is closed when the candidate leads
	files := announcement(t, pid)
	for _, bad := range [][]int{nil, numbers(files[:3]), numbers([]*os.File{files[2], files[1], files[2], files[3]}), numbers([]*os.File{files[0], files[1], files[2], files[2]})} {
		speak(t, channel, bad, sdnotify.WordCandidate)
	}
	s.receive()
	if len(s.procs.all) != 1 {
		t.Fatalf("%d generations after bad announcements", len(s.procs.all))
	}
	speak(t, channel, numbers(files[:4]), sdnotify.WordCandidate)
	s.receive()
	g := s.procs.all[pid]
	if g == nil || g.parent != m || g.number != 6 || !slices.Equal(g.build.Args, []string{"a"}) || !slices.Equal(g.build.Env, []string{"B=1"}) {
		t.Fatalf("the candidate is %+v", g)
	}
	if heirs := s.procs.heirs(); slices.Contains(heirs, g) {
		t.Error("it could become the service before its commit")
	}
	speak(t, channel, nil, sdnotify.WordCommitting)
	s.receive()
	if heirs := s.procs.heirs(); !slices.Contains(heirs, g) {
		t.Error("it could not become the service")
	}
	speak(t, files[4], nil, sdnotify.WordReady, sdnotify.WordGeneration+"6", sdnotify.WordVersion+"v10")
	s.receive()
	if s.main != g || s.recovery.builds.last == own || s.recovery.builds.last.Version != "v10" {
		t.Errorf("the main generation is %+v, the build %+v", s.main, s.recovery.builds.last)
	}
	s.recovery.builds.last.Close() // the one before was the same executable, and is closed
	delete(s.procs.all, pid)
	g.close()
	for _, f := range files {
		f.Close()
	}
	if after := len(testutil.OpenFDs()); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// What is between the supervisor and a process that it starts is not handed on to the next process.
func TestPrivateVariablesAreNotHandedOn(t *testing.T) {
	env := withoutPrivate([]string{"A=1", sdnotify.NotifyEnv + "=x", sdnotify.ChannelEnv + "=7", sdnotify.SupervisedEnv + "=1", process.Sentinel + "=yes", "LISTEN_FDS=1", "LISTEN_PIDS=1", outcomeEnv + "={}"})
	if !slices.Equal(env, []string{"A=1", "LISTEN_PIDS=1"}) {
		t.Errorf("%q", env)
	}
}

// A supervisor that has no descriptor left follows a candidate all the same, and knows what it runs.
func TestSupervisorKeepsDescriptorsInReserve(t *testing.T) {
	s := idle(t)
	m, channel := s.self(t)
	s.leads(m)
	s.reserve.Fill(reserved)
	pid := childOf(t)
	speak(t, channel, numbers(announcement(t, pid)[:4]), sdnotify.WordCandidate)
	withoutDescriptors(t, s.receive)
	if s.procs.all[pid] == nil {
		t.Error("it is not followed")
	}
}

// openNumbers lists the open descriptors of this process.
func openNumbers(t *testing.T) (fds []int) {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}

// A socket that is kept has the name under which it came last, since its address may be spelled in another way by then; one of a socket
// unit keeps its own.
func TestKeptSocketGetsItsNewName(t *testing.T) {
	for first, want := range map[string]string{sdnotify.StorePrefix + "old": sdnotify.StorePrefix + "new", "web": "web"} {
		f := listeningFile(t, first)
		again, err := sys.DupFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s := newStore([]*os.File{f})
		if k, before := s.add(sdnotify.StorePrefix+"new", again); k == nil || before != first || len(s.all) != 1 || s.all[0].name != want {
			t.Errorf("%s: %+v", first, s.all)
		}
		s.close()
	}
}
