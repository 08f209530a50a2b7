package flags

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
)

// This file makes a view of the sources, and tells the log, the Vars and the SDK what has changed.

// publish serves what the sources have. The lock is held.
func (s *store) publish() {
	if !s.sources.servable() {
		return
	}
	before := s.now.Load()
	next := s.build(before)
	s.now.Store(next)
	keys := changed(before, next)
	from := s.sources.from()
	fresh := before == nil || before.version != next.version
	if fresh && (from != "" || len(keys) > 0) { // a provider may be all that there is
		s.log.Info("flags: loaded", "path", from, "version", next.version, "flags", len(next.entries),
			"changed", short(keys))
	}
	s.warnings.update(s.allWarnings())
	for _, v := range s.vars.list {
		v.changed(before, next)
	}
	if len(keys) > 0 {
		s.channels.changed(keys)
	}
}

// build makes the view of what the sources have now. The lock is held.
func (s *store) build(before *view) *view {
	if before == nil {
		before = &view{}
	}
	next := newView(s.sources.version())
	for _, src := range s.sources.list {
		next.add(src)
	}
	next.guard(&s.guards)
	next.reuse(before)
	s.vars.admit(before, next)
	s.overrides.apply(before, next, time.Now())
	s.vars.decode(before, next)
	s.handles.fill(next)
	return next
}

// ready reports whether there are values to serve. The values of a provider count from the first time that it is ready.
func (s *store) ready() bool {
	return s.now.Load() != nil && (s.provider == nil || s.opts.Defaults != nil || s.provider.IsReady())
}

// problem returns why a file, the provider or a flag is not served, or nil. The lock is held.
func (s *store) problem() *Error {
	if s.provider != nil {
		if reason, cause := s.provider.Problem(); reason != "" {
			return &Error{Path: "provider " + s.provider.Name(), Reason: reason, Err: cause}
		}
	}
	return s.sources.problem()
}

// state is that of the flags in the SDK's terms. The lock is held.
func (s *store) state() (openfeature.EventType, string) {
	problem := s.problem()
	switch {
	case problem == nil:
		return openfeature.ProviderReady, "the flags are served"
	case s.ready():
		return openfeature.ProviderStale, problem.Error()
	}
	return openfeature.ProviderError, problem.Error()
}

// tell lets all clients of the SDK know of a state that is new. The lock is held.
func (s *store) tell() { s.channels.tell(s.state()) }

// relay lets all clients of the SDK know which flags the provider of FromProvider has changed; it may not know their keys.
func (s *store) relay(changes map[string]bool) {
	s.channels.changed(slices.Sorted(maps.Keys(changes)))
}

// allWarnings returns the refused flags, and all remarks. The lock is held.
func (s *store) allWarnings() []Warning {
	all := s.sources.faults()
	if now := s.now.Load(); now != nil {
		all = append(all, now.warnings...)
	}
	return append(all, s.sources.remarks()...)
}

// short lists the first keys.
func short(keys []string) string {
	const most = 10
	if len(keys) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(keys[:most], " "), len(keys)-most)
	}
	return strings.Join(keys, " ")
}
