package upgrade

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// What the supervisor tells a process that it starts after a crash.
const (
	generationEnv = "MIDAIR_GENERATION" // the number that it has
	outcomeEnv    = "MIDAIR_OUTCOME"    // why it was started, as an Outcome
	previousExe   = storePrefix + "previous-exe"
	previousArgs  = storePrefix + "previous-args"
)

// Kinds of an Outcome that the supervisor has brought about.
const (
	kindCrash    = "crash"          // the last committed build was started again
	kindFallback = "crash-rollback" // the build before it was
)

// meetManager learns who has started this process, what came along, and whether it stands in for one that has crashed.
func (u *Upgrader) meetManager() {
	u.listeners.passed = takePassed()
	successor := hasParent() // before the environment is cleaned
	resumed := isSupervised() && !successor
	if resumed {
		restoreName()
	}
	u.manager = newNotifier(u.log)
	if successor {
		u.manager.introduce(u)
	}
	number, outcome := os.Getenv(generationEnv), os.Getenv(outcomeEnv)
	os.Unsetenv(generationEnv)
	os.Unsetenv(outcomeEnv)
	if !resumed || outcome == "" {
		return
	}
	if n, err := strconv.Atoi(number); err == nil && n > 1 {
		u.generation, u.state.Generation = n, n
	}
	var out Outcome
	if err := json.Unmarshal([]byte(outcome), &out); err != nil {
		u.log.Warn("upgrade: cannot read why the supervisor has started this process", "err", err)
		return
	}
	out.Version, out.Generation, out.PID = u.opts.Version, u.generation, os.Getpid()
	u.state.Last = &out
	u.tel.restarts.Add(context.Background(), 1, metric.WithAttributes(attribute.String("kind", out.Kind)))
	u.takePrevious()
	atStep("new.resumed")
}

// takePrevious takes what Rollback would go back to.
func (u *Upgrader) takePrevious() {
	exe, args := u.listeners.passed.find(previousExe), u.listeners.passed.find(previousArgs)
	defer closeFile(exe)
	defer closeFile(args)
	if exe == nil || args == nil {
		return
	}
	if err := u.previous.take([]*os.File{exe, args}); err != nil {
		u.log.Warn("upgrade: cannot take what a rollback would start", "err", err)
	}
}

// withoutPrivate leaves out what one process says to one other in its environment.
func withoutPrivate(env []string) []string {
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case sentinel, notifyEnv, supervisorEnv, watchdogEnv, "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID",
			generationEnv, outcomeEnv:
		default:
			out = append(out, v)
		}
	}
	return out
}
