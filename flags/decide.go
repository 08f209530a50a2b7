package flags

import (
	"context"
	"fmt"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/flags/internal/hosted"
	"github.com/midair-go/midair/flags/internal/moment"
	"github.com/open-feature/go-sdk/openfeature"
)

// overrideReason is the reason of an evaluation with an override, besides the reasons of OpenFeature.
const overrideReason openfeature.Reason = "OVERRIDE"

// An answer is the outcome of an evaluation.
type answer struct {
	entry   *entry
	variant *flagd.Variant // nil: the caller's default
	reason  openfeature.Reason
	err     error

	name     string                // the variant of a provider
	metadata map[string]any        // of a provider
	code     openfeature.ErrorCode // of a provider
}

// foreign is the answer of a provider.
func foreign(a hosted.Answer) answer {
	return answer{name: a.Variant, reason: a.Reason, metadata: a.Metadata, err: a.Err, code: a.Code}
}

// decide chooses the variant.
func (e *entry) decide(ctx context.Context, p *moment.Pin, flat openfeature.FlattenedContext) answer {
	switch {
	case e.forced != nil:
		return answer{entry: e, variant: e.forced, reason: overrideReason}
	case e.fault != nil:
		return answer{entry: e, err: e.fault}
	case e.flag.Disabled:
		return answer{entry: e, reason: openfeature.DisabledReason}
	case e.guard != nil || e.flag.Targeted():
		return e.target(ctx, p, flat)
	case e.flag.Default == nil:
		return answer{entry: e, reason: openfeature.DefaultReason}
	}
	return answer{entry: e, variant: e.flag.Default, reason: openfeature.StaticReason}
}

// target evaluates the guard and the rule. A panic of the program, in a function of Options.Attributes for example, is an error
// of this evaluation.
func (e *entry) target(ctx context.Context, p *moment.Pin, flat openfeature.FlattenedContext) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a = answer{entry: e, err: fmt.Errorf("%w: %v", errPanic, r)}
		}
	}()
	env := environment(ctx, flat)
	if p != nil {
		env.Second = &p.Second // a request has one time
	}
	if e.guard != nil && e.guard.in(env, p) {
		return answer{entry: e, variant: e.guard.variant, reason: openfeature.SplitReason}
	}
	if !e.flag.Targeted() {
		a = answer{entry: e, variant: e.flag.Default, reason: openfeature.StaticReason}
		if e.guard != nil || a.variant == nil {
			a.reason = openfeature.DefaultReason
		}
		return a
	}
	chosen, err := e.flag.Target(env)
	switch {
	case err != nil:
		return answer{entry: e, err: err}
	case chosen == nil:
		return answer{entry: e, variant: e.flag.Default, reason: openfeature.DefaultReason}
	}
	return answer{entry: e, variant: chosen, reason: openfeature.TargetingMatchReason}
}

func environment(ctx context.Context, flat openfeature.FlattenedContext) flagd.Env {
	e := flagd.Env{Ctx: ctx, Flat: flat}
	if flat == nil {
		e.EC = openfeature.TransactionContext(ctx)
	}
	return e
}

// meta is the metadata of the flag.
func (a answer) meta() map[string]any {
	if a.entry != nil {
		return a.entry.metadata
	}
	return a.metadata
}
