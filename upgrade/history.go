package upgrade

import (
	"errors"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// history has the build that was committed before the build of this generation, and the older generations that drain.
type history struct {
	previous previous
	elders   *elders
}

// send sends a candidate the build for a rollback, and the control sockets of draining generations. A rehearsal gets only the
// build. pid is the pid of the candidate, and version is the version of this process.
func (h *history) send(to *wire.Link, m mode, pid int, version string) error {
	err := h.sendPrevious(to, m, pid, version)
	if m == modeRehearsal {
		return err
	}
	return errors.Join(err, h.elders.pass(to))
}

// sendPrevious sends the candidate the build that Rollback of the candidate starts later. Normally this is the build of this
// process. If the candidate runs the same build, as in a restart, sendPrevious sends the previous build of this process
// instead. So a rollback always leads to a different build. In modeRevive, the build of this process was not committed, and
// sendPrevious does not send it.
func (h *history) sendPrevious(to *wire.Link, m mode, pid int, version string) error {
	if !process.CanRunDescriptor {
		return nil
	}
	if process.RunsOwnBuild(pid) {
		return h.previous.pass(to)
	}
	if m == modeRevive {
		return nil
	}
	own, err := process.Own(version)
	if err != nil {
		return err
	}
	defer own.Close()
	return sendBuild(to, own, false)
}
