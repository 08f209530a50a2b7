package supervisor

import (
	"os/exec"
	"strconv"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// returned7 is the status of a program that has returned 7.
const returned7 = unix.WaitStatus(7 << 8)

// The generation that has announced a candidate receives a message about how the candidate has ended. It receives the message
// even if the supervisor had reaped the candidate before the announcement.
func TestAnnouncerIsToldHowItsCandidateEnded(t *testing.T) {
	for name, before := range map[string]bool{"before it was announced": true, "after that": false} {
		t.Run(name, func(t *testing.T) {
			s := idle(t)
			m, channel := s.self(t)
			s.main = m
			c := exec.Command("/bin/sleep", "60")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			pid := c.Process.Pid
			files := announcement(t, pid)
			if before {
				_, _ = c.Process.Kill(), c.Wait() // Wait returns an error, since the process was killed
				s.procs.strangers.add(pid, 1<<8)  // an earlier process had the same pid
				s.procs.strangers.add(pid, returned7)
			} else {
				t.Cleanup(func() { _, _ = c.Process.Kill(), c.Wait() })
				s.procs.strangers.add(pid, 1<<8) // an earlier process had the same pid, and the candidate lives
			}
			speak(t, channel, numbers(files[:4]), sdnotify.WordCandidate, sdnotify.WordPID+strconv.Itoa(pid))
			s.receive()
			var g *proc
			for _, other := range s.procs.all {
				if other.parent == m {
					g = other
				}
			}
			if !before {
				if g.known {
					t.Errorf("a candidate that lives has ended: %s", g.describe())
				}
				g.reaped(pid, returned7)
			}
			buf := make([]byte, 100)
			n, _, err := unix.Recvfrom(int(sys.FD(channel)), buf, unix.MSG_DONTWAIT)
			if want := sdnotify.WordEnded + strconv.Itoa(pid) + "\nSTATUS=exit status 7"; err != nil || string(buf[:max(n, 0)]) != want {
				t.Errorf("%q, %v: want %q", buf[:max(n, 0)], err, want)
			}
			if !g.known || g.exitCode() != 7 {
				t.Errorf("the supervisor knows %+v", g)
			}
		})
	}
}

// The supervisor remembers the ends of a few processes that no generation has announced, and returns each end once.
func TestStrangersAreForgotten(t *testing.T) {
	var all strangers
	for pid := range mostStrangers + 2 {
		all.add(pid, unix.WaitStatus(pid<<8))
	}
	all.add(99, 0x137f) // suspended, not ended
	for pid, want := range map[int]bool{0: false, 1: false, 2: true, mostStrangers + 1: true, 99: false} {
		if ws, ok := all.take(pid); ok != want || ok && ws.ExitStatus() != pid {
			t.Errorf("%d: %v, %v", pid, ws, ok)
		}
		if _, ok := all.take(pid); ok {
			t.Errorf("%d is taken twice", pid)
		}
	}
}
