package flags

import (
	"context"
	"fmt"
	"log/slog"
	"maps"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/flags/internal/moment"
)

func init() { moment.Of = func(f any) moment.Source { return momentSource{f.(*Flags).store} } }

// A momentSource is what packages httpflags and flagstest see of a store.
type momentSource struct{ s *store }

func (w momentSource) Key() any { return (*pinKey)(&w.s.current) }

func (w momentSource) Pin(outer context.Context, own *moment.Pin) *moment.Pin {
	if _, p := w.s.at(outer); p != nil && p.Request {
		return p
	}
	own.View, own.Request = w.s.now.Load(), true
	return own
}

func (w momentSource) Panicked(p any) {
	w.s.errors.Add(1)
	w.s.subject.Do(func() {
		w.s.log.Error("flags: the function of Middleware has panicked: flags are evaluated for nobody",
			slog.String("name", w.s.opts.Name), slog.String("panic", fmt.Sprint(p)))
	})
}

// With is for package flagstest.
func (w momentSource) With(ctx context.Context, values map[string]any) (context.Context, error) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now, _ := s.at(ctx)
	if now == nil {
		now = &view{}
	}
	next := newView(now.version)
	next.sources, next.base, next.plain = now.sources, now.base, s.vars.defaults(now)
	maps.Copy(next.entries, now.entries)
	for key, x := range values {
		variant, err := flagd.Encode(key, x)
		if err != nil {
			return nil, fmt.Errorf("flag %s: %w", key, err)
		}
		next.entries[key] = &entry{key: key, forced: variant, tally: newTally(nil, nil)}
	}
	s.vars.decode(now, next)
	s.handles.fill(next)
	return s.pin(ctx, next, true), nil
}
