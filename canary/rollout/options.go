package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/logqueue"
)

// A Policy says what happens to a rollout that cannot go on by itself.
type Policy uint8

// The policies.
const (
	// RollBack takes the canary back: the weight becomes 0. The state becomes RolledBack by Options.Worse, and Aborted by
	// Options.Late.
	RollBack Policy = iota
	// Hold keeps the weight, and waits for an operator. The state becomes Held.
	Hold
)

const (
	defaultName = "canary"
	maxName     = 128 // bytes: the name of a broadcast of an Upgrader has no more
	maxSalt     = 256 // bytes, so that a message has room for it
)

// Options of a Rollout. Steps or Plan is needed; all others have a default.
type Options struct {
	// Name names the rollout in logs, in the status, and in messages between processes, and has at most 128 bytes. Whatever else uses
	// Broadcast of the same Upgrader, such as a KillSwitch, needs another name. Default: "canary".
	Name string
	// Salt is the salt of the cohort and of the evidence, and identifies the release: give the Router the same one, by the method
	// Salt. A new version of the canary needs a new salt: with the salt of a canary that was rolled back, the same users
	// would meet the next canary, and the evidence against the old canary would count against the next one. At most 256 bytes.
	// Default: Name.
	Salt string
	// Steps are the plan. With Plan, Steps are the plan until Plan returns one without an error. Default: the plan of Plan.
	Steps Steps
	// Plan returns the plan, if the plan can change: that of a feature flag, for example, with a Var of package flags. Plan is called
	// several times a second, and should not wait. The rollout waits until there is a step. A plan that changes counts at once: the
	// rollout stays in the step with the same number, or in the last step. The error of a wrong plan is logged, and the plan before
	// stays. Default: Steps.
	Plan func() Steps

	// Judge are the options of the statistical tests. Default: those of package judge.
	Judge judge.Options
	// Bad reports whether an outcome is bad. Default: canary.Outcome.Failed.
	Bad func(canary.Outcome) bool
	// Ignore reports whether a request says nothing about the canary, such as a probe or a WebSocket. Such requests are in no
	// count. Ignore must look at the request only, and not at the side. Default: every request counts.
	Ignore func(*http.Request) bool

	// WarmUp is a time from the beginning of the first step. The latency of requests that begin in this time does not count, on
	// both sides: a new process, or a handler with empty caches, is slower at first. Bad outcomes count from the beginning.
	// Default: 0.
	WarmUp time.Duration
	// Panics is the budget of panics: at so many panics of the canary, while stable has had none, the canary is rolled back. With
	// a key a user counts once, and with Processes a connection counts once. At the weight 1, and so after the promotion, no panic
	// counts, as stable has no requests to compare with. Default: 3. Negative: no budget.
	Panics int
	// MaxBad is a limit for the share of bad outcomes of the canary, such as 0.02 for 2 %, whatever stable does. A canary that is
	// shown to have more is rolled back; this is wrong with a probability of at most Judge.Alpha in the whole rollout. A step that
	// needs Proof may end when the canary is shown to have less. MaxBad is about requests, also with a key: the users whom a
	// greater weight adds may have another share. Default: none.
	MaxBad float64
	// Proof lets a step end only if it is shown that the canary is not bad: by a verdict of Pass, or by MaxBad. A healthy canary
	// needs about 919, 187 and 54 bad outcomes of both sides for a Pass, at weights of 1, 5 and 25 %. There is no Pass without
	// Judge.Settle, with a key, with Processes, and if a function such as canary.Options.Choose has chosen the side of a request:
	// NoPass of judge.Status has the reason. Without a Pass and without MaxBad, a step with Proof does not end. Default: false: a
	// step ends if nothing speaks against the canary.
	Proof bool
	// Deadline is the longest time of a step, without pauses, for a step that cannot end: for lack of requests, of proof, or because
	// the evidence is between good and bad. It has to be longer than For of each step. Late says what happens then. Default: no
	// limit.
	Deadline time.Duration
	// Late is the policy at the deadline of a step. Default: RollBack.
	Late Policy
	// Worse is the policy when the canary is judged worse than stable. Guards, which are the budget of panics and MaxBad, always
	// take the canary back. Default: RollBack.
	Worse Policy

	// Kill is latched when the state becomes RolledBack, in the goroutine that finds the worse canary. Give the Router the same
	// KillSwitch: every request is stable from then on. With a file, the latch outlives the process: without one, a process that
	// is started again begins with the first step of a canary that was rolled back before. With a broadcast, the latch reaches all
	// processes. While Kill is killed or latched, no step ends. Default: none.
	Kill *canary.KillSwitch
	// Ready is called each second until Ready returns nil, before the canary gets a weight. Ready may wait until caches are warm.
	// Default: the canary is ready.
	Ready func(context.Context) error
	// SetWeight is called with each new weight, by a goroutine of Run, for traffic that a Router does not divide, but a load
	// balancer, for example. After an error SetWeight is called again each second. A step lasts from the moment at which SetWeight
	// has set its weight. Default: none, as a Router calls Weight.
	SetWeight func(float64) error
	// Broadcast sends data to all other living processes of the service, which pass it to Ingest: so the evidence of all
	// processes is judged together. The method Broadcast of an Upgrader fits. Default: none.
	Broadcast func(name string, data []byte) error
	// Follows reports whether another process decides, because this process is a candidate, or drains. If so, the requests of this
	// process count, and this process changes no weight by itself. Follows is called several times a second, and should not wait.
	// Until the next call, both processes may decide: of two decisions at once, one counts in both processes, and a step that both
	// have ended has ended once. Default: this process decides while Run runs.
	Follows func() bool

	// Decided is called after each decision of this process, in the order of the decisions, by a goroutine of Run: for a webhook,
	// for example. A call that has not returned delays the next call, and the end of Run, and nothing else; at most the last 50
	// decisions wait. When Run or Bake is about to end, the context lasts for another 5 s. Default: none.
	Decided func(context.Context, Decision)
	// Opinion asks an external judge, in the process that decides, by a goroutine of Run. The Opinion may lower the weight, hold
	// the rollout, or take the canary back; it cannot raise the weight above that of the step. A panic counts as a hold. Default:
	// none.
	Opinion func(context.Context, Status) Opinion
	// AskEvery is the time from the end of a call of Opinion to the next call. Default: 10 s.
	AskEvery time.Duration

	// Logger gets a line for each decision. Its handler is called in another goroutine. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with their defaults, or an error.
func (o Options) withDefaults() (Options, error) {
	o.Name = cmp.Or(o.Name, defaultName)
	o.Salt = cmp.Or(o.Salt, o.Name)
	o.Panics = cmp.Or(o.Panics, 3)
	o.AskEvery = cmp.Or(o.AskEvery, 10*time.Second)
	if o.Plan == nil || len(o.Steps) > 0 {
		if err := o.check(o.Steps); err != nil {
			return o, err
		}
	}
	if o.Bad == nil {
		o.Bad = canary.Outcome.Failed
	}
	if o.Follows == nil {
		o.Follows = func() bool { return false }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	switch {
	case len(o.Name) > maxName || !utf8.ValidString(o.Name):
		return o, fmt.Errorf("rollout: Name is %.20q with %d bytes: choose a text of at most %d bytes", o.Name, len(o.Name), maxName)
	case len(o.Salt) > maxSalt || !utf8.ValidString(o.Salt):
		return o, fmt.Errorf("rollout: Salt is %.20q with %d bytes: choose a text of at most %d bytes", o.Salt, len(o.Salt), maxSalt)
	case !(o.MaxBad >= 0 && o.MaxBad < 1):
		return o, fmt.Errorf("rollout: MaxBad is %v: choose a share of bad outcomes below 1, such as 0.02, or 0 for none", o.MaxBad)
	case o.WarmUp < 0:
		return o, fmt.Errorf("rollout: WarmUp is %v: choose a time such as 10s, or 0 for none", o.WarmUp)
	case o.Proof && o.MaxBad == 0 && o.Judge.Settle == 0:
		return o, errors.New("rollout: Proof without MaxBad and Judge.Settle: no step could end; set one of them")
	case o.Deadline < 0:
		return o, fmt.Errorf("rollout: Deadline is %v: choose the longest time of a step, or 0 for none", o.Deadline)
	case o.AskEvery < 0:
		return o, fmt.Errorf("rollout: AskEvery is %v: choose a time above 0, or 0 for 10 s", o.AskEvery)
	case o.Late > Hold:
		return o, fmt.Errorf("rollout: Late is %d: choose RollBack or Hold", o.Late)
	case o.Worse > Hold:
		return o, fmt.Errorf("rollout: Worse is %d: choose RollBack or Hold", o.Worse)
	}
	return o, nil
}

// plan returns the result of Plan, or an error if Plan has panicked.
func (o *Options) plan() (plan Steps, err error) {
	err = guard.Call(func() error { plan = o.Plan(); return nil })
	return plan, err
}

// check returns an error if the steps are no plan for these options.
func (o *Options) check(plan Steps) error {
	if err := plan.Check(); err != nil {
		return err
	}
	for i, step := range plan {
		if o.Deadline > 0 && step.For >= o.Deadline {
			return fmt.Errorf("rollout: step %d lasts %v, and Deadline is %v: choose a Deadline that is longer than each step", i+1, step.For, o.Deadline)
		}
	}
	return nil
}
