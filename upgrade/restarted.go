package upgrade

import (
	"context"
	"encoding/json"
	"os"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/supervisor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// meetManager finds out which service manager this process has, and takes the sockets that the manager has passed. If the
// supervisor has started this process after a crash, meetManager also shows this start in Status and counts it in a metric.
func meetManager(p *parts) error {
	p.announcer.passed = sdnotify.TakeActivation()
	p.estate.listeners.Activate(p.announcer.passed)
	resumed := sdnotify.IsSupervised() && !process.HasParent() // read before sdnotify.New removes the variables
	if resumed {
		process.RestoreName()
	}
	p.estate.manager = sdnotify.New(p.log)
	sockets, err := p.estate.manager.TakePassed()
	if err != nil {
		return err
	}
	p.announcer.passed.Add(sockets)
	watchSupervisor(p)
	number, told := supervisor.TakeReport()
	if !resumed || told == nil {
		return nil
	}
	if number > 1 {
		p.origin.generation, p.shown.status.Generation = number, number
	}
	var out Outcome
	if err := json.Unmarshal(told, &out); err != nil {
		p.log.Warn("upgrade: cannot read why the supervisor has started this process", "err", err)
		return nil
	}
	out.Version, out.Generation, out.PID = p.opts.Version, p.origin.generation, os.Getpid()
	p.shown.status.Last = &out
	p.tel.restarts.Add(context.Background(), 1, metric.WithAttributes(attribute.String("kind", out.Kind)))
	takePrevious(p)
	atStep("new.resumed")
	return nil
}

// watchSupervisor makes a metric that shows whether the supervisor is alive, if there is a supervisor.
func watchSupervisor(p *parts) {
	if p.estate.manager.SupervisorState() == "" {
		return
	}
	stop, err := p.tel.watch(p.estate.manager.SupervisorState)
	if err != nil {
		p.log.Warn("upgrade: no metric says whether the supervisor lives", "err", err)
	}
	p.announcer.unwatch = stop
}

// takePrevious takes the build for Rollback from the supervisor.
func takePrevious(p *parts) {
	exe, args := supervisor.TakeBuild(p.announcer.passed)
	defer exe.Close() // does nothing if exe is nil
	defer args.Close()
	if exe == nil || args == nil {
		return
	}
	if err := p.history.previous.take([]*os.File{exe, args}, true); err != nil {
		p.log.Warn("upgrade: cannot take what a rollback would start", "err", err)
	}
}

// recordUpgrade writes the outcome of the upgrade, or of the restart after a crash, that made this process the service. The old
// process also writes the outcome of the upgrade, unless it is killed first. recordUpgrade must be called before this process
// writes the outcome of its next upgrade.
func recordUpgrade(p *parts) {
	if p.origin.born.Started.IsZero() {
		if last := p.shown.get().Last; last != nil { // the supervisor has started this process after a crash
			p.estate.recordOutcome(*last)
		}
		return
	}
	out := p.origin.born
	out.At, out.Committed, out.Version, out.Generation, out.PID = wallClock(), true, p.opts.Version, p.origin.generation, os.Getpid()
	if p.shown.get().Uncommitted {
		out.Reason = "the old process died before the commit"
	}
	p.estate.recordOutcome(out)
}
