package supervisor

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// crash makes a generation crash. The generation has served for the given time; negative: it has not served.
func (s *supervisor) crash(now time.Time, served time.Duration) {
	s.recovery.crashed = &proc{started: now, lostAt: now, known: true, status: 3 << 8}
	if served >= 0 {
		s.recovery.crashed.led = now.Add(-served)
	}
	s.recovery.outage.begin(now)
	s.recovery.restartAt = time.Time{}
	s.schedule(now)
}

// schedule makes the supervisor schedule the next start, or end the service.
func (s *supervisor) schedule(now time.Time) {
	if s.recovery.schedule(now) {
		s.finish(s.recovery.crashed.exitCode())
	}
}

// restart starts the service again, and waits until the program runs, or the start has failed.
func (s *supervisor) restart() {
	s.start(s.recovery.restart(time.Now()))
	s.started(<-s.launched)
}

// After crashes in a row the first restart comes at once, and the pauses before the next ones grow up to the limit. The
// pauses are the same if the program has served for a moment, has ended before it served, or could not be started. After a
// build that has served for Guard the pauses begin anew.
func TestRestartsWaitLongerAndLonger(t *testing.T) {
	want := []time.Duration{0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000, 10000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	now := time.Now()
	for name, fail := range map[string]func(s *supervisor){
		"serves for a moment": func(s *supervisor) { s.crash(now, time.Second) },
		"ends before":         func(s *supervisor) { s.crash(now, -1) },
		"cannot be started":   func(s *supervisor) { s.recovery.restartAt = time.Time{}; s.schedule(now) },
		"with a build before": func(s *supervisor) {
			s.crash(now, -1)
			if s.recovery.outage.crashes >= 2 {
				s.recovery.outage.crashes = 0
				s.recovery.builds.change(s.opts.Guard)
			}
		},
	} {
		s := idle(t)
		s.recovery.builds.last, s.recovery.builds.before = &process.Build{}, &process.Build{}
		s.crash(now, time.Hour)
		var pauses []time.Duration
		for range want {
			fail(s)
			pauses = append(pauses, s.recovery.restartAt.Sub(now))
		}
		if !slices.Equal(pauses, want) {
			t.Errorf("%s: %v, want %v", name, pauses, want)
		}
		if s.crash(now, s.opts.Guard); s.recovery.outage.row != 0 || !s.recovery.restartAt.Equal(now) {
			t.Errorf("%s: after a good time: %d crashes, restart in %v", name, s.recovery.outage.row, s.recovery.restartAt.Sub(now))
		}
	}
}

// The supervisor gives up after a time, and not after a number of crashes: when the sum of the downtimes since the last
// generation that served for Guard is GiveUp. The exit status is the status of the process that has crashed. The last start is
// at the end of GiveUp. Without GiveUp the supervisor never gives up.
func TestSupervisorGivesUpByTime(t *testing.T) {
	s := idle(t)
	now := time.Now()
	s.crash(now, time.Hour)
	end := now.Add(s.opts.GiveUp)
	for now.Before(end) {
		if s.phase == ending || s.recovery.restartAt.After(end) || now.Sub(s.recovery.restartAt) > 0 {
			t.Fatalf("%v before the end: ending %v, next start in %v", end.Sub(now), s.phase == ending, s.recovery.restartAt.Sub(now))
		}
		if now = s.recovery.restartAt; now.Before(end) {
			s.crash(now, -1)
		}
	}
	if s.crash(now, -1); s.phase != ending || s.code != 3 {
		t.Errorf("at the end: ending %v with %d", s.phase == ending, s.code)
	}

	s = idle(t)
	for served := range 40 { // each generation serves for a moment
		if s.phase == ending {
			if served < 31 {
				t.Errorf("it has given up after %d pauses, of 5 minutes", served)
			}
			break
		}
		if s.crash(now, time.Second); !s.recovery.restartAt.IsZero() {
			now = s.recovery.restartAt
			s.recovery.outage.served(now, false)
			now = now.Add(time.Second)
		}
	}
	if s.phase != ending {
		t.Error("it has not given up, and was down for 5 minutes")
	}

	s.phase = running
	s.recovery.outage.served(now, false)
	s.crash(now.Add(s.opts.Guard), s.opts.Guard)
	if s.phase == ending || s.recovery.outage.down != 0 {
		t.Errorf("after a good time: ending %v, down for %v", s.phase == ending, s.recovery.outage.down)
	}

	s = idle(t)
	s.recovery.opts.GiveUp = 0
	s.crash(now, -1)
	if s.crash(now.Add(1000*time.Hour), -1); s.phase == ending {
		t.Error("it has given up, and was not asked to")
	}
}

// While an orphan serves, the supervisor does not give up, and the time does not count as downtime.
func TestServiceIsNotDownWhileAnOrphanServes(t *testing.T) {
	s, orphan, _ := withOrphan(t)
	s.recovery.outage.begun = time.Now().Add(-2 * s.opts.GiveUp)
	s.recovery.restartAt = time.Time{}
	if s.settle(); s.phase == ending || s.recovery.restartAt.IsZero() {
		t.Fatal("it has given up")
	}
	m, channel := s.self(t)
	speak(t, channel, nil, sdnotify.WordReady)
	if s.receive(); s.main != m || s.recovery.outage.down != 0 {
		t.Errorf("main %v, down for %v while %d served", s.main, s.recovery.outage.down, orphan.pid)
	}
}

// unstartable returns a supervisor whose service has crashed after it had served for Guard. A start of its builds fails:
// there is no such file.
func unstartable(t *testing.T) *supervisor {
	t.Helper()
	s := idle(t)
	gone := filepath.Join(t.TempDir(), "gone")
	if err := os.WriteFile(gone, []byte("#!"+gone+".interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(gone)
	if err != nil {
		t.Fatal(err)
	}
	s.recovery.builds.last, s.recovery.builds.before = &process.Build{Exe: f, Args: []string{"a"}, Version: "new"}, &process.Build{Exe: f, Args: []string{"a"}, Version: "old"}
	t.Cleanup(func() { f.Close() })
	s.crash(time.Now(), time.Hour)
	return s
}

// A start that fails before the program runs is no crash of the build: the same build is started again, after pauses, and the
// reserve of descriptors is full afterwards.
func TestFailedStartIsNoCrashOfTheBuild(t *testing.T) {
	s := unstartable(t)
	for range 20 {
		if s.restart(); s.phase == ending || s.recovery.restartAt.IsZero() || s.recovery.builds.fallback || s.recovery.outage.crashes != 0 || len(s.procs.all) > 0 {
			t.Fatalf("ending %v, next start at %v, another build %v, crashes %d", s.phase == ending, s.recovery.restartAt, s.recovery.builds.fallback, s.recovery.outage.crashes)
		}
	}
	if d := time.Until(s.recovery.restartAt); d < 9*time.Second || s.reserve.Len() != reserved {
		t.Errorf("next start in %v, %d descriptors in reserve", d, s.reserve.Len())
	}
}

// The end of a program before it serves is a crash of the build. After two such crashes the earlier build is started. If that
// build does not serve either, the two are tried in turn, and the first that serves is the committed build.
func TestBuildsAreTriedByTurns(t *testing.T) {
	for _, c := range []struct {
		ends int
		want string
	}{{0, "new"}, {1, "new"}, {2, "old"}, {3, "old"}, {4, "new"}, {6, "old"}} {
		s := unstartable(t)
		f, args := s.recovery.builds.last.Exe, s.recovery.builds.last.Args
		for range c.ends {
			s.crash(time.Now(), -1)
			s.restart()
		}
		started, _ := s.recovery.builds.next()
		if started.Version != c.want || started.Exe != f || !slices.Equal(started.Args, args) {
			t.Errorf("after %d ends %s is started, want %s", c.ends, started.Version, c.want)
		}
		g, _ := s.self(t)
		if s.recovery.builds.remember(g); s.recovery.builds.last.Version != c.want || s.recovery.builds.fallback || (s.recovery.builds.before == nil) != (c.want == "old") {
			t.Errorf("after %d ends %s is committed, want %s; before: %v", c.ends, s.recovery.builds.last.Version, c.want, s.recovery.builds.before)
		}
	}
}

// If the machine lets no program start, an orphan is confirmed only after Timeout: until then it serves, but has neither the
// pid file nor the resources of Exclusive.
func TestMachineDoesNotConfirmAnOrphanAtOnce(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	s.recovery.builds.last, s.recovery.builds.before = unstartable(t).recovery.builds.last, nil
	for range 5 {
		if s.restart(); !orphan.isOrphan() || s.recovery.restartAt.IsZero() {
			t.Fatal("it is confirmed")
		}
	}
	s.recovery.outage.stuck = time.Now().Add(-s.opts.Timeout)
	if s.restart(); orphan.isOrphan() {
		t.Error("it is not confirmed after Timeout")
	}
	m := sentTo(t, channel)
	for m.Has(sdnotify.WordSuccessor) || m.Has(sdnotify.WordBroadcast) { // each start has sent these messages
		m = sentTo(t, channel)
	}
	if !m.Has(sdnotify.WordConfirmed) {
		t.Errorf("the orphan received %q", m.Lines)
	}
}

// If the supervisor cannot pass the sockets to a program, the end of the program is no crash of the build.
func TestSocketsThatCannotBePassedAreNoCrash(t *testing.T) {
	s := idle(t)
	g, channel := s.generationOf(t, childOf(t))
	s.main, s.phase = g, running
	channel.Close()
	g.passing = &passing{rest: []kept{{name: "web", file: listeningFile(t, "web")}}, total: 1}
	s.passNext(g)
	if s.died(<-s.procs.deaths); s.phase == ending || s.recovery.restartAt.IsZero() || s.recovery.outage.crashes != 0 || s.recovery.outage.failed != 0 || s.recovery.outage.stuck.IsZero() {
		t.Errorf("ending %v, restart at %v: %+v", s.phase == ending, s.recovery.restartAt, s.recovery.outage)
	}
}

// If a supervisor has no descriptors left except its reserve, it can still start the service.
func TestStartHasTheReserveOfDescriptors(t *testing.T) {
	s := idle(t)
	sleep, err := os.Open("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	b := &process.Build{Exe: sleep, Args: []string{"sleep", "60"}}
	defer sleep.Close()
	s.reserve.Fill(reserved)
	withoutDescriptors(t, func() {
		s.start(b, nil)
		s.started(<-s.launched)
	})
	if s.main == nil {
		t.Fatal("it is not started")
	}
	s.main.kill()
	<-s.procs.deaths
	s.procs.reap(s.suspended)
}

// withoutDescriptors calls fn while this process cannot open another descriptor.
func withoutDescriptors(t *testing.T, fn func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = uint64(slices.Max(openNumbers(t)) + 1)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	for { // fills the gaps between the open descriptors
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		defer unix.Close(fd)
	}
	fn()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// The error of a failed start says what an operator can do.
func TestErrorOfAStartSaysWhatToDo(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		unix.EAGAIN: "limit of processes and threads", unix.ENOMEM: "limit of memory", unix.EMFILE: "limit of open files",
		unix.ENFILE: "limit of open files", unix.EACCES: "noexec", unix.ETXTBSY: "still being written",
	} {
		if err := process.ExplainStart("web", errno); !strings.HasPrefix(err.Error(), "start web: "+errno.Error()) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

// The runtime has spare threads when the machine allows no new thread. Otherwise the runtime would end the process.
func TestThreadsAreReserved(t *testing.T) {
	threads := func() int {
		all, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	release := make(chan struct{})
	defer close(release)
	most := 0
	for range 20 { // a busy thread may become free during the test: then the runtime needs no new thread
		for before := threads(); threads() == before; { // until no thread is spare
			locked := make(chan struct{})
			go func() { // ends with release
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				close(locked)
				<-release
			}()
			<-locked
		}
		before := threads()
		reserveThreads()
		if most = max(most, threads()-before); most >= spareThreads {
			return
		}
	}
	t.Errorf("%d threads more at most, want %d", most, spareThreads)
}
