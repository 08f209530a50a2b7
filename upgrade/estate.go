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
	"github.com/midair-go/midair/upgrade/internal/broadcast"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/pidfile"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// estate is everything that a generation hands on to its successor, or needs for the handover.
type estate struct {
	listeners  *listener.Set
	keeper     *state.Keeper
	resources  resources
	pid        *pidfile.File
	broadcasts *broadcast.Hub
	unwritten  unwritten          // the results of writing the pid file and the outcome
	room       room               // the reserve of descriptors
	manager    *sdnotify.Notifier // the service manager; nil if there is none
	opts       *Options
	log        *slog.Logger
}

// nameFiles fills fields of the welcome message for a candidate that gets the sockets as files at exec. The fields name the
// unix sockets with their hard links, the sockets that the service manager stores, and the sockets that the candidate has to
// open.
func (e *estate) nameFiles(body *wire.WelcomeBody) {
	// The hard links of at most 100 paths fit into the message. The candidate finds the links of further paths through the
	// kernel.
	const most = 100
	body.Paths, body.Stored, body.Expected = e.listeners.Paths(), e.manager.Names(), e.expected()
	body.Links = e.listeners.Links(body.Paths[:min(len(body.Paths), most)])
}

// mostExpected is the number of names that fit into the welcome message beside its other fields. If there are more sockets,
// the candidate does not check whether it has opened the others.
const mostExpected = 100

// expected returns, for the welcome message, the names of the sockets that a candidate gets as files at exec and has to open.
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

// reserveOutcome is called when an upgrade begins. It reserves room on the disk for the outcome, because the disk may be full
// at the end of the upgrade.
func (e *estate) reserveOutcome() {
	if err := e.pid.Reserve(); err != nil {
		e.log.Warn("upgrade: no room is reserved for the outcome, it is tried again when the upgrade ends", "err", err)
	}
}

// recordOutcome writes the outcome of an upgrade beside the pid file, for the callers of Request. After a commit, both the new
// and the old process call recordOutcome. If the file already has the outcome of this upgrade or of a later one, recordOutcome
// does not write.
func (e *estate) recordOutcome(out Outcome) {
	if e.opts.PIDFile == "" {
		return
	}
	defer e.pid.Unreserve()
	last, err := readOutcome(e.pid.ReadLast())
	// The machine may have been started again after the last outcome. Then uptimes cannot be compared: the last outcome is
	// older, although its Begun may be greater. A Begun that is greater than the present uptime shows this.
	if err == nil && out.Committed && last.Begun >= out.Begun && last.Begun <= sys.Uptime() {
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

// takeState restores the kept values that another process sends at its end. A message without a file has no values.
func (e *estate) takeState(from int, f wire.Frame, stop <-chan struct{}) {
	if len(f.Files) > 0 {
		e.restore(from, f.Files[0], stop)
	}
}

// restore calls UnmarshalBinary of the kept values with the state of another process. The argument from is the pid of that
// process. restore waits until UnmarshalBinary has returned, but at most for Options.Timeout. When stop is closed, this
// process is about to end, and restore waits no longer.
func (e *estate) restore(from int, state *os.File, stop <-chan struct{}) {
	done := make(chan error, 1)
	go func() { done <- e.keeper.Receive(state) }() // ends when UnmarshalBinary has returned
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

// acquire acquires the exclusive resources.
func (e *estate) acquire(ctx context.Context) error { return e.resources.acquire(ctx, e.opts.Timeout) }

// release releases the held resources at the end of Run.
func (e *estate) release() {
	ctx, cancel := context.WithTimeout(context.Background(), e.opts.Timeout)
	defer cancel()
	if err := e.resources.release(ctx); err != nil {
		e.log.Error("upgrade: cannot release", "err", err)
	}
}

// removeFiles removes the staged files at the end of this process. If stops is true, the whole service stops, and removeFiles
// also removes the pid file. If written is false, the file system has not answered in time. In this case removeFiles removes
// nothing, because it might wait for the file system for ever.
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
