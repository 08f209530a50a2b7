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

// send sends a candidate the build for a rollback, and the control sockets of draining generations. pid is the pid of the
// candidate, and version is the version of this process.
func (h *history) send(to *wire.Link, pid int, version string) error {
	return errors.Join(h.sendPrevious(to, pid, version), h.elders.pass(to))
}

// sendPrevious sends the candidate the build that Rollback of the candidate starts later. Normally this is the build of this
// process. If the candidate runs the same build, as in a restart, sendPrevious sends the previous build of this process
// instead. So a rollback always leads to a different build.
func (h *history) sendPrevious(to *wire.Link, pid int, version string) error {
	if !process.CanRunDescriptor {
		return nil
	}
	if process.RunsOwnBuild(pid) {
		return h.previous.pass(to)
	}
	own, err := process.Own(version)
	if err != nil {
		return err
	}
	defer own.Close()
	return sendBuild(to, own)
}
