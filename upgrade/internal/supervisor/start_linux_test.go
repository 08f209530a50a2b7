package supervisor

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// hanging returns a build whose executable cannot be read until release is called. After that the start fails.
func hanging(t *testing.T) (b *process.Build, release func()) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(name, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &process.Build{Exe: f, Args: []string{"a"}, Version: "slow"}, func() {
		w, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
	}
}

// restarting returns a supervisor whose service has crashed, and whose start of the service hangs until release is called.
func restarting(t *testing.T) (s *supervisor, release func()) {
	t.Helper()
	s = idle(t)
	s.phase = running
	s.recovery.builds.last, release = hanging(t)
	s.crash(time.Now(), time.Hour)
	s.start(s.recovery.restart(time.Now()))
	return s, release
}

// sleeping is a build that sleeps.
func sleeping(t *testing.T) *process.Build {
	t.Helper()
	f, err := os.Open("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &process.Build{Exe: f, Args: []string{"sleep", "60"}}
}

// A start that hangs does not delay a stop: the loop goes on, and the service ends a moment after the signal.
func TestStopDoesNotWaitForAStartThatHangs(t *testing.T) {
	s, release := restarting(t)
	signals := make(chan os.Signal, 1)
	signals <- unix.SIGTERM
	testutil.Until(t, 10*time.Second, "the loop takes the signal", func() bool { s.await(signals); return !s.launch.stopBy.IsZero() })
	if due := s.launch.stopBy; s.over() || s.pause() > abortLimit || time.Until(due) > abortLimit {
		t.Errorf("over %v, the stop waits until %v", s.over(), due)
	}
	if s.tick(s.launch.stopBy); !s.over() || s.code != 0 {
		t.Errorf("over %v with %d", s.over(), s.code)
	}
	release()
	s.started(<-s.launched)
	if s.main != nil || len(s.procs.all) > 0 || s.reserve.Len() != reserveSize() {
		t.Errorf("main %v, %d processes, %d descriptors in reserve", s.main, len(s.procs.all), s.reserve.Len())
	}
}

// While a start hangs, messages wait, since their meaning depends on the start. They are read after the start. The log
// reports that the start hangs, and a start that fails in the end is tried again.
func TestMessagesWaitForAStart(t *testing.T) {
	s, release := restarting(t)
	c, channel := s.generationOf(t, childOf(t))
	c.state = candidate
	speak(t, channel, nil, sdnotify.WordReady)
	if s.receive(); s.main != nil {
		t.Error("a message was read during the start")
	}
	due := s.launch.due
	if s.tick(due); s.phase == ending || s.launch == nil || !s.launch.due.After(due) || !s.recovery.restartAt.IsZero() {
		t.Errorf("phase %v, restart at %v", s.phase, s.recovery.restartAt)
	}
	release()
	s.started(<-s.launched)
	if s.launch != nil || s.recovery.restartAt.IsZero() || s.recovery.outage.stuck.IsZero() {
		t.Errorf("restart at %v: %+v", s.recovery.restartAt, s.recovery.outage)
	}
	if s.receive(); s.main != c {
		t.Error("the message was not read after the start")
	}
}

// A start that hangs for longer than GiveUp ends the service, with the status of the process that crashed.
func TestSupervisorGivesUpDuringAStart(t *testing.T) {
	s, release := restarting(t)
	s.recovery.outage.begun = time.Now().Add(-s.opts.GiveUp)
	if s.tick(s.launch.due); !s.over() || s.code != 3 {
		t.Errorf("over %v with %d", s.over(), s.code)
	}
	release()
	s.started(<-s.launched)
}

// A signal that comes during a start is sent to the new program after the start.
func TestSignalWaitsForItsProgram(t *testing.T) {
	s := idle(t)
	s.start(sleeping(t), nil)
	s.signal(unix.SIGTERM)
	s.started(<-s.launched)
	p := s.main
	if p == nil || p.state != starting || p.number != 1 || p.intent != asked {
		t.Fatalf("the main generation is %+v", p)
	}
	if <-s.procs.deaths != p {
		t.Fatal("another process has ended")
	}
	if s.died(p); !s.over() || s.code != 128+int(unix.SIGTERM) {
		t.Errorf("over %v with %d", s.over(), s.code)
	}
}

// If a program begins to run only after the end of the service, or of the supervisor, it is killed.
func TestProgramThatIsTooLateIsKilled(t *testing.T) {
	for name, end := range map[string]func(s *supervisor){
		"after the service":    func(s *supervisor) { s.finish(0); s.started(<-s.launched) },
		"after the supervisor": func(*supervisor) {},
	} {
		s := newSupervisor(Config{Timeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}, nil, newStore(nil), nil)
		s.start(sleeping(t), nil)
		end(s)
		s.procs.close()
		testutil.Until(t, 10*time.Second, name+" it is killed", func() bool {
			var ws unix.WaitStatus
			pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
			return err == nil && pid > 0 && ws.Signal() == unix.SIGKILL
		})
		s.reserve.Release()
		if s.main != nil {
			t.Errorf("%s: main %v", name, s.main)
		}
	}
}
