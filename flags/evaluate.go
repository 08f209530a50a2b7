package flags

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/midair-go/midair/flags/internal/hosted"
	"github.com/midair-go/midair/flags/internal/moment"
	"github.com/open-feature/go-sdk/openfeature"
)

// evaluate returns the value, or def where the caller's default is the answer. A client of the SDK has merged all contexts into
// flat; otherwise flat is nil.
func evaluate[T any](ctx context.Context, c *current, key string, e *entry, missing error, p *moment.Pin,
	flat openfeature.FlattenedContext, def T, as *typed[T]) (T, answer) {
	if c.provider == nil {
		v, a := local(ctx, c, e, missing, p, flat, def, as)
		if c.observe != nil {
			c.tell(ctx, key, v, a)
		}
		return v, a
	}
	v, a := beside(ctx, c, key, e, p, flat, def, as)
	if c.observe != nil {
		c.tell(ctx, key, v, a)
	}
	return v, a
}

// beside evaluates a flag where there is a provider. The provider outranks Options.Defaults, but not guards, overrides and files.
// If the provider fails, the answer is that of Options.Defaults.
func beside[T any](ctx context.Context, c *current, key string, e *entry, p *moment.Pin,
	flat openfeature.FlattenedContext, def T, as *typed[T]) (T, answer) {
	if e != nil && e.guard != nil && p == nil {
		p = new(moment.Pin) // the guard is asked here and in local, and has to say the same
	}
	if e != nil && (!e.weak || e.forced != nil || e.guard != nil && e.guard.in(environment(ctx, flat), p)) {
		return local(ctx, c, e, nil, p, flat, def, as)
	}
	v, said := hosted.Ask(ctx, c.provider, key, flat, def, as.ask)
	if said.Err == nil {
		return v, foreign(said)
	}
	if e != nil {
		return local(ctx, c, e, nil, p, flat, def, as)
	}
	c.errors.Add(1)
	return def, foreign(said)
}

// local evaluates an entry. The value is def where the caller's default is the answer.
func local[T any](ctx context.Context, c *current, e *entry, missing error, p *moment.Pin,
	flat openfeature.FlattenedContext, def T, as *typed[T]) (T, answer) {
	a := answer{err: missing}
	if e != nil {
		a = e.decide(ctx, p, flat)
		if a.variant != nil {
			if got, ok := as.value(a); ok {
				e.tally.add(a.variant)
				return got, a
			}
			a.err, a.variant = errType, nil
		}
		e.tally.add(nil)
	}
	if a.err != nil {
		c.errors.Add(1)
	}
	return def, a
}

// tell calls Options.Observe with an evaluation. A panic of the program is logged once.
func (c *current) tell(ctx context.Context, key string, value any, a answer) {
	defer func() {
		if p := recover(); p != nil {
			c.warned.Do(func() {
				c.log.Error("flags: Options.Observe has panicked", slog.String("key", key), slog.String("panic", fmt.Sprint(p)))
			})
		}
	}()
	e := Evaluation{Provider: providerName, Key: key, Value: value, Variant: a.name, Reason: a.reason, Err: a.err, Metadata: a.meta()}
	if c.provider != nil {
		e.Provider = c.provider.Name()
	}
	if a.variant != nil {
		e.Variant = a.variant.Name
	}
	if a.err != nil {
		code, _, _ := strings.Cut(resolution(key, a).Error(), ":")
		e.Reason, e.Code, e.Variant = openfeature.ErrorReason, openfeature.ErrorCode(code), ""
	}
	c.observe(ctx, e)
}
