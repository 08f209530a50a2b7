package flags

import (
	"log/slog"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/midair-go/midair/flags/internal/hosted"
	"github.com/open-feature/go-sdk/openfeature"
)

// A store makes views out of the sources, the guards, the overrides and the Vars. Its goroutine looks at the files and ends
// overrides.
//
// The order of locks: mu, locks of the SDK, locks of the channels, of the overrides, of the provider and of the notifier. Functions
// of Vars run with mu, and may evaluate flags by a client of the SDK. The SDK calls the methods of providers while it holds locks
// of its own. So no method of a provider takes mu; handlers of events may, because the SDK calls handlers without a lock.
type store struct {
	current
	opts      Options
	guards    guards
	overrides overrides
	notifier  notifier
	channels  channels
	subject   sync.Once // the panic of a function of Middleware was logged

	mu       sync.Mutex // held while the content changes, never by an evaluation
	sources  sources
	handles  handles
	vars     vars
	warnings warningLog

	closed     sync.Once
	stop, done chan struct{}
}

// newStore returns the store of the files, from the weakest to the strongest.
func newStore(opts Options, paths ...string) (*store, error) {
	all, err := newSources(opts, paths)
	if err != nil {
		return nil, err
	}
	s := &store{opts: opts, sources: all, stop: make(chan struct{}), done: make(chan struct{})}
	s.observe, s.log = opts.Observe, opts.Logger
	s.guards = guards{list: opts.Guards, log: s.log}
	s.notifier.stop = s.stop
	s.handles = handles{current: &s.current, indexes: map[string]int{}, weights: map[string]bool{}}
	s.vars = vars{current: &s.current, guards: &s.guards, name: opts.Name}
	s.warnings.log = s.log
	s.overrides = overrides{current: &s.current, accept: s.accept, changed: make(chan struct{}, 1)}
	s.overrides.start(opts, s.rebuild)
	return s, nil
}

// host has a provider in place of the file of Open. host does not wait for the provider.
func (s *store) host(p openfeature.FeatureProvider) (err error) {
	s.provider, err = hosted.New(p, hosted.Config{
		Poll: s.opts.Poll, Attributes: s.opts.Attributes, Logger: s.log, OnState: s.retell, OnValues: s.rebuild, OnChange: s.relay,
	})
	if err != nil {
		return err
	}
	s.sources.provider = true
	return s.provider.Start()
}

// follow looks at the files until close, and ends overrides in time.
func (s *store) follow() {
	defer close(s.done)
	tick := time.NewTicker(s.opts.Poll)
	defer tick.Stop()
	end := time.NewTimer(math.MaxInt64)
	defer end.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.check(false)
		case <-s.overrides.changed:
			s.overrides.setTimer(end)
		case <-end.C:
			s.rebuild()
			s.overrides.setTimer(end)
		}
	}
}

// accept returns why a Var refuses an entry, or nil.
func (s *store) accept(now *view, e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vars.accept(now, e)
}

// close ends the goroutines of the store, and waits for their end.
func (s *store) close() {
	s.closed.Do(func() { close(s.stop) })
	<-s.done
	s.notifier.wait()
}

// check looks at the files and takes what is new.
func (s *store) check(always bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sources.look(always) || s.now.Load() == nil {
		s.publish()
	}
	s.tell()
}

// rebuild makes a new view without looking at the files.
func (s *store) rebuild() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Load() != nil || s.provider != nil {
		s.publish()
	}
}

// handle returns the index of a key for handles. With a weight of a provider it waits for the first value.
func (s *store) handle(key string, weight bool) int {
	if weight {
		s.read(key, reflect.Float64)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, lacking := s.handles.add(key, weight)
	if now := s.now.Load(); now != nil && lacking {
		s.now.Store(s.handles.extend(now, i))
		s.warnings.update(s.allWarnings())
	}
	return i
}

// read has the provider read a key again and again, and waits for the first value.
func (s *store) read(key string, kind reflect.Kind) {
	if s.provider != nil {
		s.provider.Read(key, kind)
	}
}

// add adds a Var, and serves it with a value.
func (s *store) add(v value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now.Load()
	if next := s.vars.add(v, now); next != nil {
		s.now.Store(next)
	} else if now != nil {
		s.publish() // the flags become what another generation has served
	}
	v.begin(s.now.Load())
}

// notify calls OnChange of all Vars.
func (s *store) notify() {
	s.mu.Lock()
	vars := s.vars.list
	s.mu.Unlock()
	for _, v := range vars {
		select {
		case <-s.stop:
			return
		default:
			v.notify()
		}
	}
}

// retell is tell with the lock.
func (s *store) retell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell()
}

// logValue logs a new value of a Var.
func (s *store) logValue(key, old, value string) {
	s.log.Info("flags: a value has changed", slog.String("key", key), slog.String("old", old), slog.String("new", value))
}
