package supervisor

import (
	"bytes"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// serving makes this process the main generation, which has served with a build of its own.
func (s *supervisor) serving(t *testing.T) {
	t.Helper()
	own, err := process.Own("v8")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.recovery.builds.last.Close() })
	s.recovery.builds.last, s.phase = own, running
	s.leads(s.main)
}

// A candidate may have the pid of an earlier process whose end was not handled yet. Even if the goroutine of the earlier
// process has just reported that messages can be read, the supervisor is not blocked.
func TestNumberIsUsedAgainWhileItsOldOwnerIsHeard(t *testing.T) {
	s := idle(t)
	m, channel := s.self(t)
	s.main = m
	s.serving(t)
	pid := childOf(t)
	old, say := s.generationOf(t, childOf(t))
	delete(s.procs.all, old.key) // as if the dead process had had this pid
	old.key, old.pid = pid, pid
	s.procs.all[pid] = old
	say.Close()
	if g := <-s.procs.readable; g != old {
		t.Fatalf("generation %d has sent something", g.pid)
	}
	speak(t, channel, numbers(announcement(t, pid)[:4]), sdnotify.WordCandidate)
	over := make(chan struct{})
	go func() {
		s.receive()
		old.inbox.answer()
		close(over)
	}()
	testutil.Until(t, 10*time.Second, "the supervisor goes on", func() bool {
		select {
		case <-over:
			return true
		default:
			return false
		}
	})
	if g := s.procs.all[pid]; g == nil || g == old || g.parent != m {
		t.Errorf("the candidate is %+v", g)
	}
}

// The messages of a candidate count even if it was committed, has crashed and was reaped before the supervisor read its
// announcement: its build was the service.
func TestCandidateThatWasReapedBeforeItIsHeardWasTheService(t *testing.T) {
	s := idle(t)
	m, channel := s.self(t)
	s.main = m
	s.serving(t)
	c := exec.Command("/bin/sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	files := announcement(t, c.Process.Pid)
	speak(t, channel, numbers(files[:4]), sdnotify.WordCandidate)
	speak(t, files[4], nil, sdnotify.WordReady, fmt.Sprint(sdnotify.WordPID, c.Process.Pid), sdnotify.WordGeneration+"6", sdnotify.WordVersion+"v10")
	_ = c.Process.Kill()
	_ = c.Wait()
	speak(t, channel, nil, sdnotify.WordHandedOver)
	s.receive()
	if s.recovery.builds.last.Version != "v10" {
		t.Errorf("the next crash would start %s, want v10", s.recovery.builds.last.Version)
	}
}

// A message without a byte may carry descriptors. The supervisor closes these descriptors. The test uses a system call of its
// own, since golang.org/x/sys always sends a byte with descriptors.
func TestEmptyMessageLeavesNoDescriptor(t *testing.T) {
	s := idle(t)
	_, channel := s.self(t)
	s.receive()
	for range 3 { // first the garbage collector closes the files that other tests have left open
		runtime.GC()
		<-time.After(time.Millisecond)
	}
	before := len(testutil.OpenFDs())
	oob := unix.UnixRights(0, 1, 2)
	for range 20 {
		h := unix.Msghdr{Control: &oob[0]}
		h.SetControllen(len(oob))
		if _, _, e := unix.Syscall(unix.SYS_SENDMSG, sys.FD(channel), uintptr(unsafe.Pointer(&h)), 0); e != 0 {
			t.Fatal(e)
		}
	}
	speak(t, channel, nil, "END=1")
	for range 21 {
		s.receive()
	}
	if now := len(testutil.OpenFDs()); now != before {
		t.Errorf("%d descriptors are open, and were %d before", now, before)
	}
}

// The process group of a main generation that has crashed is killed. If the generation was reaped, and a new group has the same
// number, the new group is not killed.
func TestOnlyItsOwnGroupIsSwept(t *testing.T) {
	for name, reused := range map[string]bool{"its own": false, "another one": true} {
		t.Run(name, func(t *testing.T) {
			s := idle(t)
			group := exec.Command("/bin/sleep", "60")
			group.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := group.Start(); err != nil {
				t.Fatal(err)
			}
			g, _ := s.generationOf(t, group.Process.Pid)
			if reused {
				gone := exec.Command("/bin/true")
				if err := gone.Start(); err != nil {
					t.Fatal(err)
				}
				_ = g.handle.Close()
				g.handle, _ = process.Open(gone.Process.Pid)
				_ = gone.Wait()
			}
			g.sweep()
			_ = group.Process.Signal(syscall.SIGTERM) // has no effect if the process was killed before
			want := "signal: killed"
			if reused {
				want = "signal: terminated"
			}
			if err := group.Wait(); err == nil || err.Error() != want {
				t.Errorf("the group has ended by %v, want %s", err, want)
			}
		})
	}
}

// If there is no room for the descriptor of a socket, a crash closes the socket. The log has a warning.
func TestSocketWithoutItsDescriptorIsLogged(t *testing.T) {
	s := idle(t)
	var log bytes.Buffer
	s.manager.log = slog.New(slog.NewTextHandler(&log, nil))
	_, channel := s.self(t)
	speak(t, channel, nil, sdnotify.WordStore, sdnotify.WordName+"web")
	s.receive()
	if !strings.Contains(log.String(), "a crash will close it: raise the limit") || !strings.Contains(log.String(), "name=web") {
		t.Errorf("the log: %q", log.String())
	}
}
