package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/supervisor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// meetManager finds out which program has started this process, takes the passed sockets, and reports a start after a crash.
func (u *Upgrader) meetManager() error {
	u.passed = sdnotify.TakeActivation()
	u.listeners.Activate(u.passed)
	resumed := sdnotify.IsSupervised() && !process.HasParent() // before the environment is cleaned
	if resumed {
		process.RestoreName()
	}
	u.manager = sdnotify.New(u.log)
	sockets, err := u.manager.TakePassed()
	if err != nil {
		return err
	}
	u.passed.Add(sockets)
	u.watchSupervisor()
	number, told := supervisor.TakeReport()
	if !resumed || told == nil {
		return nil
	}
	if number > 1 {
		u.generation, u.shown.status.Generation = number, number
	}
	var out Outcome
	if err := json.Unmarshal(told, &out); err != nil {
		u.log.Warn("upgrade: cannot read why the supervisor has started this process", "err", err)
		return nil
	}
	out.Version, out.Generation, out.PID = u.opts.Version, u.generation, os.Getpid()
	u.shown.status.Last = &out
	u.tel.restarts.Add(context.Background(), 1, metric.WithAttributes(attribute.String("kind", out.Kind)))
	u.takePrevious()
	atStep("new.resumed")
	return nil
}

// watchSupervisor makes a metric of the life of the supervisor, if there is a supervisor.
func (u *Upgrader) watchSupervisor() {
	if u.manager.SupervisorState() == "" {
		return
	}
	stop, err := u.tel.watch(u.manager.SupervisorState)
	if err != nil {
		u.log.Warn("upgrade: no metric says whether the supervisor lives", "err", err)
	}
	u.unwatch = stop
}

// takePrevious takes the build for Rollback.
func (u *Upgrader) takePrevious() {
	exe, args := supervisor.TakeBuild(u.passed)
	defer exe.Close() // which does nothing without a file
	defer args.Close()
	if exe == nil || args == nil {
		return
	}
	if err := u.previous.take([]*os.File{exe, args}); err != nil {
		u.log.Warn("upgrade: cannot take what a rollback would start", "err", err)
	}
}

// takeChannel takes the candidate's end of its channel to the supervisor.
func (u *Upgrader) takeChannel(announced bool, files []*os.File) error {
	if !announced || len(files) == 0 {
		return errors.New("the supervisor does not know of this process: the old one is of another library or another version of it: stop the service and start it")
	}
	file, err := sys.DupFile(files[0])
	if err == nil {
		err = u.manager.Attach(file)
	}
	if err != nil {
		return fmt.Errorf("the channel to the supervisor: %w", err)
	}
	return nil
}

// recordUpgrade records the upgrade, or the restart, that made this process the service. The old process records the upgrade too, but may
// be killed before; and this process records the next upgrade, whose record must not come before.
func (u *Upgrader) recordUpgrade() {
	if u.born.Started.IsZero() {
		if last := u.Status().Last; last != nil { // the supervisor has started this process after a crash
			u.recordOutcome(*last)
		}
		return
	}
	out := u.born
	out.At, out.Committed, out.Version, out.Generation, out.PID = wallClock(), true, u.opts.Version, u.generation, os.Getpid()
	if u.Status().Uncommitted {
		out.Reason = "the old process died before the commit"
	}
	u.recordOutcome(out)
}
