package upgrade

import (
	"errors"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// history is what a generation knows of the builds and processes before it.
type history struct {
	previous previous
	elders   *elders
}

// send sends a candidate the build for a rollback, and the control sockets of draining generations. version is that of this process.
func (h *history) send(to *wire.Link, pid int, version string) error {
	return errors.Join(h.sendPrevious(to, pid, version), h.elders.pass(to))
}

// sendPrevious sends the candidate the build for a rollback: the build of this process, or, if the candidate runs the same build,
// the build before. So a restart does not lose the build before.
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
