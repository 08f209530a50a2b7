package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/pidfile"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// estate is everything that a generation hands on to its successor, or needs for the handover.
type estate struct {
	listeners *listener.Set
	keeper    *state.Keeper
	resources resources
	pid       *pidfile.File
	unwritten unwritten          // of the pid file and the outcome
	room      room               // descriptors in reserve
	manager   *sdnotify.Notifier // the service manager; nil if there is none
	opts      *Options
	log       *slog.Logger
}

// nameFiles fills in the names of sockets that the candidate gets as files at exec.
func (e *estate) nameFiles(body *wire.WelcomeBody) {
	const most = 100 // with their second names, so that the welcome fits into a message; the kernel knows the others
	body.Paths, body.Stored, body.Expected = e.listeners.Paths(), e.manager.Names(), e.expected()
	body.Links = e.listeners.Links(body.Paths[:min(len(body.Paths), most)])
}

// mostExpected is how many names fit into the welcome message beside its other fields. Further sockets are not compared.
const mostExpected = 100

// expected returns the names of the sockets that a candidate has to open and gets as files at exec, for the welcome message.
func (e *estate) expected() []wire.SocketName {
	names := e.listeners.Early()
	return names[:min(len(names), mostExpected)]
}

// putPathsBack restores the paths of unix sockets that were removed, and logs the paths that cannot be restored.
func (e *estate) putPathsBack() {
	if err := e.listeners.PutBack(); err != nil {
		e.log.Error("upgrade: a unix socket cannot be reached", "err", err)
	}
}

// reserveOutcome takes room for the outcome of an upgrade that begins: at the end the disk may be full.
func (e *estate) reserveOutcome() {
	if err := e.pid.Reserve(); err != nil {
		e.log.Warn("upgrade: no room is reserved for the outcome, it is tried again when the upgrade ends", "err", err)
	}
}

// recordOutcome writes the outcome of an upgrade beside the pid file, for the callers of Request. The new process records a commit,
// and then the old process does, if nothing else has happened meanwhile.
func (e *estate) recordOutcome(out Outcome) {
	if e.opts.PIDFile == "" {
		return
	}
	defer e.pid.Unreserve()
	last, err := readOutcome(e.pid.ReadLast())
	if err == nil && out.Committed && last.Begun >= out.Begun && last.Begun <= sys.Uptime() { // else it was before the machine was started
		e.unwritten.note(fileOutcome, out, nil, nil)
		return
	}
	b, err := json.Marshal(out)
	if err == nil {
		err = e.pid.WriteLast(append(b, '\n'))
	}
	if e.unwritten.note(fileOutcome, out, err, func() { e.recordOutcome(out) }) && err != nil {
		e.log.Warn("upgrade: cannot record the outcome", "err", err)
	}
}

// publishPID writes the pid file of the main generation.
func (e *estate) publishPID() error {
	err := e.pid.Publish()
	if e.unwritten.note(filePID, nil, err, func() { _ = e.publishPID() }) && err == nil {
		e.log.Info("upgrade: the pid file is written again")
	}
	return err
}

// takeState takes the values, if there are any, that another process sends at its end.
func (e *estate) takeState(from int, f wire.Frame, stop <-chan struct{}) {
	if len(f.Files) > 0 {
		e.restore(from, f.Files[0], stop)
	}
}

// restore gives the program the state of another process. The wait for UnmarshalBinary ends after Timeout, and with stop, which is
// the end of this process.
func (e *estate) restore(from int, state *os.File, stop <-chan struct{}) {
	done := make(chan error, 1)
	go func() { done <- e.keeper.Receive(state) }() // ends when UnmarshalBinary does
	var err error
	select {
	case err = <-done:
	case <-stop:
		err = errors.New("this process ends before the value's UnmarshalBinary has returned")
	case <-time.After(e.opts.Timeout):
		err = fmt.Errorf("a kept value's UnmarshalBinary did not return within %v", e.opts.Timeout)
	}
	if err != nil {
		e.log.Error("upgrade: cannot take the state of a process that goes", "pid", from, "err", err)
	}
	e.keeper.Forget()
}

// release releases the held resources at the end of Run.
func (e *estate) release() {
	ctx, cancel := context.WithTimeout(context.Background(), e.opts.Timeout)
	defer cancel()
	if err := e.resources.release(ctx); err != nil {
		e.log.Error("upgrade: cannot release", "err", err)
	}
}

// removeFiles removes the staged files, and the pid file if the service stops. It removes nothing if the files were not written in time: then
// the file system would hold the end of the process as well.
func (e *estate) removeFiles(stops, written bool) {
	if !written {
		e.log.Warn("upgrade: the pid file may be left, because its directory does not answer")
		return
	}
	if stops {
		if err := e.pid.Remove(); err != nil {
			e.log.Warn("upgrade: the pid file is left, and names a process that has ended", "err", err)
		}
	}
	e.pid.Discard(os.Getpid())
}
