package supervisor

import (
	"errors"
	"slices"
	"strconv"
	"syscall"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// Every generation is a child of the supervisor from its birth, and what it leaves behind comes to the supervisor as well. The
// generation that has started a candidate cannot wait for it, and is told how it has ended.

// reap waits for every child that has ended, whoever started it, and hears of those that have stopped.
func (s *supervisor) reap() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG|unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		switch g := s.gens[pid]; {
		case g == nil:
			s.strangers.add(pid, ws)
		case ws.Stopped():
			s.stopped(g, ws.StopSignal())
		case !g.known:
			g.reaped(pid, ws)
		}
	}
}

// reaped notes how a generation has ended, and tells who has announced it.
func (g *generation) reaped(pid int, ws unix.WaitStatus) {
	g.status, g.known = ws, true
	if g.parent != nil && !g.parent.dead() { // else it fails if that one ends just now
		_ = g.parent.inbox.send(nil, sdnotify.WordEnded+strconv.Itoa(pid), sdnotify.WordStatus+process.Describe(syscall.WaitStatus(ws)))
	}
}

// strangers are children that have ended before anybody announced them: the last ones, since most are helpers that nobody will announce.
type strangers []stranger

type stranger struct {
	pid    int
	status unix.WaitStatus
}

const mostStrangers = 16

func (all *strangers) add(pid int, ws unix.WaitStatus) {
	if ws.Stopped() {
		return
	}
	if len(*all) == mostStrangers {
		*all = slices.Delete(*all, 0, 1)
	}
	*all = append(*all, stranger{pid, ws})
}

// take returns how a child has ended, if it is one of those.
func (all *strangers) take(pid int) (ws unix.WaitStatus, ok bool) {
	i := len(*all) - 1
	for i >= 0 && (*all)[i].pid != pid { // the last one of that number
		i--
	}
	if i < 0 {
		return 0, false
	}
	ws = (*all)[i].status
	*all = slices.Delete(*all, i, i+1)
	return ws, true
}
