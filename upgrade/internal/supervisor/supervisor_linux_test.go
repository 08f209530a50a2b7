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

// idle returns a supervisor that has started nothing.
func idle(t *testing.T) *supervisor {
	t.Helper()
	o := Config{Timeout: time.Minute, AbortGrace: 30 * time.Second, Guard: time.Minute, GiveUp: 5 * time.Minute}
	o.Logger = slog.New(slog.DiscardHandler)
	s := newSupervisor(o, nil, newStore(nil), nil)
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

// self returns this process as a living generation. say sends a message on the channel of the generation.
func (s *supervisor) self(t *testing.T) (g *proc, say *os.File) {
	t.Helper()
	return s.generationOf(t, os.Getpid())
}

// generationOf returns a process as a generation, and the other end of its channel.
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

// READY of a process with a greater number makes the process the main generation, and READY that comes too late changes
// nothing. If two processes with the same number serve, the second is ended.
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
		{"no process serves", nil, 2, other, cell{lead, serving}},
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

// childOf starts a child of this process.
func childOf(t *testing.T) int {
	t.Helper()
	p, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Kill()
		if _, err := p.Wait(); err != nil { // the supervisor has reaped the process
			_ = p.Release()
		}
	})
	// The start returns a moment before the program is executed.
	testutil.Until(t, 10*time.Second, "it is executed", func() bool {
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid))
		return err == nil && string(args) == "sleep\x0060\x00"
	})
	return p.Pid
}

// The exit code is the exit status of the main generation, as in a shell.
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
		"unknown, it was asked": {proc{intent: asked}, 0, "unknown"},
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

// The end of the main generation is the end of the service in two cases: the generation has announced the end, or was sent a
// signal to end. The signal counts even if another process has sent it, and if it has ended the generation before the
// announcement. Any other end is a crash.
func TestOnlyCrashesAreMended(t *testing.T) {
	for what, c := range map[string]struct {
		g    proc
		ends bool
	}{
		"it said that it stops": {proc{intent: announced}, true},
		"it was asked to":       {proc{intent: asked}, true},
		"a second SIGINT":       {proc{known: true, status: unix.WaitStatus(unix.SIGINT)}, true},
		"SIGTERM":               {proc{known: true, status: unix.WaitStatus(unix.SIGTERM)}, true},
		"SIGKILL":               {proc{known: true, status: unix.WaitStatus(unix.SIGKILL)}, false},
		"SIGSEGV":               {proc{known: true, status: unix.WaitStatus(unix.SIGSEGV)}, false},
		"exit status 2":         {proc{known: true, status: unix.WaitStatus(unix.SIGINT) << 8}, false},
		"the status is unknown": {proc{}, false},
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

// The store holds each socket once, by its inode, and removes a socket by name.
func TestStoreHoldsEachSocketOnce(t *testing.T) {
	web := listeningFile(t, "web")
	again, err := sys.DupFile(web)
	if err != nil {
		t.Fatal(err)
	}
	s := newStore([]*os.File{web})
	if k, before := s.add("midair.web", again); k.file != web || before != "web" || len(s.list()) != 1 || k.name != "web" {
		t.Errorf("%d entries, %v, before %q", len(s.list()), k, before)
	}
	if _, err := again.Stat(); err == nil {
		t.Error("the duplicate is open")
	}
	if k, before := s.add("admin", listeningFile(t, "x")); *k != s.list()[1] || before != "" || len(s.list()) != 2 {
		t.Errorf("%d entries, %v, before %q", len(s.list()), k, before)
	}
	s.remove("nothing")
	s.remove("web")
	if _, err := web.Stat(); err == nil || len(s.list()) != 1 {
		t.Errorf("after the removal: %d entries, %v", len(s.list()), err)
	}
	s.close()
	if len(s.list()) != 0 {
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

// Messages of a generation that is not the main generation change nothing for the service.
func TestOnlyTheMainGenerationSpeaksForTheService(t *testing.T) {
	s := idle(t)
	g, channel := s.self(t)
	speak(t, channel, nil, sdnotify.WordStopping)
	speak(t, channel, nil, sdnotify.WordAlive)
	speak(t, channel, nil, sdnotify.WordExtend+"1")
	s.receive()
	if g.intent != unintended || !g.aliveBy.IsZero() || !g.serveBy.IsZero() {
		t.Errorf("the message had an effect: %+v", g)
	}
}

// A draining generation may send READY for itself or for another process: neither process becomes the service.
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

// announcement returns the message by which a generation announces a process, with a duplicate of each descriptor in the
// message.
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

// After a candidate was announced with its build, its messages count, and it may become the service. After an incomplete
// announcement the process is not followed, and no received descriptor stays open.
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
	s.recovery.builds.last.Close() // the build before was the same executable, and is closed already
	delete(s.procs.all, pid)
	g.close()
	for _, f := range files {
		f.Close()
	}
	if after := len(testutil.OpenFDs()); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// The variables that the supervisor sets for a single process are not passed on to the next process.
func TestPrivateVariablesAreNotHandedOn(t *testing.T) {
	env := withoutPrivate([]string{"A=1", sdnotify.NotifyEnv + "=x", sdnotify.ChannelEnv + "=7", sdnotify.SupervisedEnv + "=1", process.Sentinel + "=yes", "LISTEN_FDS=1", "LISTEN_PIDS=1", outcomeEnv + "={}"})
	if !slices.Equal(env, []string{"A=1", "LISTEN_PIDS=1"}) {
		t.Errorf("%q", env)
	}
}

// If a supervisor has no descriptors left except its reserve, it can still follow a candidate, and gets the build of the
// candidate.
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

// A held socket has the name from the last message about it, because the name may spell the address in another way. The socket
// of a socket unit does not change its name.
func TestKeptSocketGetsItsNewName(t *testing.T) {
	for first, want := range map[string]string{sdnotify.StorePrefix + "old": sdnotify.StorePrefix + "new", "web": "web"} {
		f := listeningFile(t, first)
		again, err := sys.DupFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s := newStore([]*os.File{f})
		if k, before := s.add(sdnotify.StorePrefix+"new", again); k == nil || before != first || len(s.list()) != 1 || s.list()[0].name != want {
			t.Errorf("%s: %+v", first, s.list())
		}
		s.close()
	}
}
