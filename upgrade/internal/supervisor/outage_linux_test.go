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

// crash is a generation that has served until now for as long as it says, or, with a negative time, not at all.
func (s *supervisor) crash(now time.Time, served time.Duration) {
	s.crashed = &generation{ready: served >= 0, since: now.Add(-max(served, 0)), ended: now, known: true, status: 3 << 8}
	s.outage.begin(now)
	s.restartAt = time.Time{}
	s.schedule(now)
}

// The restarts after crashes in a row are immediate at first and then further and further apart, up to the limit, whether the
// program has served for a moment, has ended before, or could not be started; a build that has run for its guard time begins anew.
func TestRestartsWaitLongerAndLonger(t *testing.T) {
	want := []time.Duration{0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000, 10000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	now := time.Now()
	for name, fail := range map[string]func(s *supervisor){
		"serves for a moment": func(s *supervisor) { s.crash(now, time.Second) },
		"ends before":         func(s *supervisor) { s.crash(now, -1) },
		"cannot be started":   func(s *supervisor) { s.restartAt = time.Time{}; s.schedule(now) },
		"with a build before": func(s *supervisor) {
			s.crash(now, -1)
			if s.outage.crashes >= 2 {
				s.change()
			}
		},
	} {
		s := idle(t)
		s.last, s.before = &process.Build{}, &process.Build{}
		s.crash(now, time.Hour)
		var pauses []time.Duration
		for range want {
			fail(s)
			pauses = append(pauses, s.restartAt.Sub(now))
		}
		if !slices.Equal(pauses, want) {
			t.Errorf("%s: %v, want %v", name, pauses, want)
		}
		if s.crash(now, s.opts.Guard); s.outage.row != 0 || !s.restartAt.Equal(now) {
			t.Errorf("%s: after a good time: %d crashes, restart in %v", name, s.outage.row, s.restartAt.Sub(now))
		}
	}
}

// The supervisor gives up by time and not by count, with the status of what has crashed: when nobody has served for GiveUp, all
// told, since a generation has served for Guard. The last start is at the end of that time. Without GiveUp it goes on for ever.
func TestSupervisorGivesUpByTime(t *testing.T) {
	s := idle(t)
	now := time.Now()
	s.crash(now, time.Hour)
	end := now.Add(s.opts.GiveUp)
	for now.Before(end) {
		if s.ending || s.restartAt.After(end) || now.Sub(s.restartAt) > 0 {
			t.Fatalf("%v before the end: ending %v, next start in %v", end.Sub(now), s.ending, s.restartAt.Sub(now))
		}
		if now = s.restartAt; now.Before(end) {
			s.crash(now, -1)
		}
	}
	if s.crash(now, -1); !s.ending || s.code != 3 {
		t.Errorf("at the end: ending %v with %d", s.ending, s.code)
	}

	s = idle(t)
	for served := range 40 { // it serves for a moment each time
		if s.ending {
			if served < 31 {
				t.Errorf("it has given up after %d pauses, of 5 minutes", served)
			}
			break
		}
		if s.crash(now, time.Second); !s.restartAt.IsZero() {
			now = s.restartAt
			s.outage.served(now, false)
			now = now.Add(time.Second)
		}
	}
	if !s.ending {
		t.Error("it has not given up, and was down for 5 minutes")
	}

	s.ending = false
	s.outage.served(now, false)
	s.crash(now.Add(s.opts.Guard), s.opts.Guard)
	if s.ending || s.outage.down != 0 {
		t.Errorf("after a good time: ending %v, down for %v", s.ending, s.outage.down)
	}

	s = idle(t)
	s.opts.GiveUp = 0
	s.crash(now, -1)
	if s.crash(now.Add(1000*time.Hour), -1); s.ending {
		t.Error("it has given up, and was not asked to")
	}
}

// While an orphan serves, the service is not down: the supervisor does not give up, and the time does not count.
func TestServiceIsNotDownWhileAnOrphanServes(t *testing.T) {
	s, orphan, _ := withOrphan(t)
	s.outage.begun = time.Now().Add(-2 * s.opts.GiveUp)
	s.restartAt = time.Time{}
	if s.decide(); s.ending || s.restartAt.IsZero() {
		t.Fatal("it has given up")
	}
	m, channel := s.self(t)
	speak(t, channel, nil, sdnotify.WordReady)
	if s.receive(); s.main != m || s.outage.down != 0 {
		t.Errorf("main %v, down for %v while %d served", s.main, s.outage.down, orphan.pid)
	}
}

// unstartable is a supervisor whose service has crashed after a good time. A start of its builds fails: there is no such file.
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
	s.last, s.before = &process.Build{Exe: f, Args: []string{"a"}, Version: "new"}, &process.Build{Exe: f, Args: []string{"a"}, Version: "old"}
	t.Cleanup(func() { f.Close() })
	s.crash(time.Now(), time.Hour)
	return s
}

// A start that fails before its program runs is no crash of the build: the same one is tried again, after pauses, and the reserve
// of descriptors is full again.
func TestFailedStartIsNoCrashOfTheBuild(t *testing.T) {
	s := unstartable(t)
	for range 20 {
		if s.restart(); s.ending || s.restartAt.IsZero() || s.instead != nil || s.outage.crashes != 0 || len(s.gens) > 0 {
			t.Fatalf("ending %v, next start at %v, another build %v, crashes %d", s.ending, s.restartAt, s.instead, s.outage.crashes)
		}
	}
	if d := time.Until(s.restartAt); d < 9*time.Second || s.reserve.Len() != reserved {
		t.Errorf("next start in %v, %d descriptors in reserve", d, s.reserve.Len())
	}
}

// A program that ends before it serves is a crash of the build: after two, the one before is started. If that one does not serve
// either, both are tried by turns, and the one that serves is the committed one.
func TestBuildsAreTriedByTurns(t *testing.T) {
	for _, c := range []struct {
		ends int
		want string
	}{{0, "new"}, {1, "new"}, {2, "old"}, {3, "old"}, {4, "new"}, {6, "old"}} {
		s := unstartable(t)
		f, args := s.last.Exe, s.last.Args
		for range c.ends {
			s.crash(time.Now(), -1)
			s.restart()
		}
		started := s.last
		if s.instead != nil {
			started = s.instead
		}
		if started.Version != c.want || started.Exe != f || !slices.Equal(started.Args, args) {
			t.Errorf("after %d ends %s is started, want %s", c.ends, started.Version, c.want)
		}
		g, _ := s.self(t)
		if s.remember(g); s.last.Version != c.want || s.instead != nil || (s.before == nil) != (c.want == "old") {
			t.Errorf("after %d ends %s is committed, want %s; before: %v", c.ends, s.last.Version, c.want, s.before)
		}
	}
}

// Starts that the machine does not allow confirm an orphan only when Timeout is over: it serves, but has neither the pid file nor
// what is Exclusive.
func TestMachineDoesNotConfirmAnOrphanAtOnce(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	s.last, s.before = unstartable(t).last, nil
	for range 5 {
		if s.restart(); !orphan.orphan || s.restartAt.IsZero() {
			t.Fatal("it is confirmed")
		}
	}
	s.outage.stuck = time.Now().Add(-s.opts.Timeout)
	if s.restart(); orphan.orphan {
		t.Error("it is not confirmed after Timeout")
	}
	m := heardBy(t, channel)
	for m.Has(sdnotify.WordSuccessor) { // of each start
		m = heardBy(t, channel)
	}
	if !m.Has(sdnotify.WordConfirmed) {
		t.Errorf("it hears %q", m.Lines)
	}
}

// A program that cannot get its sockets, because this process may not pass them, has not crashed.
func TestSocketsThatCannotBePassedAreNoCrash(t *testing.T) {
	s := idle(t)
	g, channel := s.generationOf(t, childOf(t))
	s.main, s.everMain, g.isMain = g, true, true
	channel.Close()
	g.passing = &passing{rest: []kept{{name: "web", file: listeningFile(t, "web")}}, total: 1}
	s.pass(g)
	if s.died(<-s.deaths); s.ending || s.restartAt.IsZero() || s.outage.crashes != 0 || s.outage.failed != 0 || s.outage.stuck.IsZero() {
		t.Errorf("ending %v, restart at %v: %+v", s.ending, s.restartAt, s.outage)
	}
}

// A supervisor that has no descriptor left but its reserve starts the service.
func TestStartHasTheReserveOfDescriptors(t *testing.T) {
	s := idle(t)
	sleep, err := os.Open("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	b := &process.Build{Exe: sleep, Args: []string{"sleep", "60"}}
	defer sleep.Close()
	s.reserve.Fill(reserved)
	withoutDescriptors(t, func() { err = s.start(b, nil) })
	if err != nil {
		t.Fatal(err)
	}
	s.main.kill()
	<-s.deaths
	s.reap()
}

// withoutDescriptors calls fn while this process may open no other descriptor.
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
	for { // the gaps below
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

// What an operator can do about a start that fails is in the error.
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

// The runtime has spare threads when the machine allows no new one: it would end the process otherwise.
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
	for range 20 { // a thread that was busy may become spare in between, and be one that need not be made
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
