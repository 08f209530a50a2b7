// Package hosted runs a provider of the OpenFeature SDK that other people have written, for package flags: the start and the
// shutdown, the states, evaluations, readings of values that are the same for everybody, and the memory of such values for the
// next process.
//
// # Locks
//
// The functions of Config are called without a lock of this package, and without a lock of the SDK: go-sdk 1.20 starts a goroutine
// for each handler of an event. So these functions may take a lock L of their owner. Under L, the owner may call Problem, IsReady,
// Values, Kept, Keep and Ask, but none of Read, Wait and Close. The order is: L, locks of the SDK, locks of this package.
package hosted

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
)

const (
	// closeLimit is how long Close waits for a provider.
	closeLimit = 5 * time.Second
	// passOn is how long after the start of the provider a value of another process is still passed on although nobody has asked
	// for the value.
	passOn = 10 * time.Minute
)

// Config is what New needs. All fields but Attributes are required.
type Config struct {
	// Poll is the time between two readings.
	Poll time.Duration
	// Attributes are added to the attributes of a caller, by name.
	Attributes map[string]func(context.Context) string
	// Logger gets a line for a reading that fails.
	Logger *slog.Logger
	// OnState is called after the state of the provider has changed.
	OnState func()
	// OnValues is called after a reading has found another value.
	OnValues func()
	// OnChange is called after the provider has said that flags have changed, and these have been read. The keys may be empty.
	OnChange func(keys map[string]bool)
}

// A Provider is a provider in an API of the SDK that nobody else uses.
type Provider struct {
	config  Config
	wrapped *wrapped
	api     *openfeature.EvaluationAPI
	client  *openfeature.Client

	begun, doomed sync.Once
	ready         chan struct{} // closed when the provider is ready for the first time
	readyAt       time.Time     // of ready
	fatal         chan struct{} // closed when the provider says for the first time that it never will be ready
	kept          memory        // what was the same for everybody, here or in another generation
	readings      *readings

	mu      sync.Mutex
	why     map[openfeature.EventType]string // the last message of each kind of event
	changes map[string]bool                  // the keys of the changes that OnChange has not been told; nil without a change

	closing  sync.Once
	closed   atomic.Bool
	closeErr error
	kick     chan struct{}   // wakes the goroutine
	ctx      context.Context // of the start and of the readings; ends with Close
	stop     context.CancelFunc
	done     chan struct{} // closed when the goroutine has ended
}

// New takes a provider. The provider must not be in use by another Provider. Start, and Close after Start, have to follow.
func New(p openfeature.FeatureProvider, config Config) (*Provider, error) {
	w, err := wrap(p, config.Logger)
	if err != nil {
		return nil, err
	}
	h := &Provider{
		config: config, wrapped: w, api: isolated.NewAPI(),
		ready: make(chan struct{}), fatal: make(chan struct{}), why: map[openfeature.EventType]string{},
		kick: make(chan struct{}, 1), done: make(chan struct{}),
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.client = h.api.NewClient()
	h.readings = newReadings(h.client, &h.kept, config.Logger)
	return h, nil
}

// Start gives the provider to the SDK. Start does not wait for the provider. After an error the provider is free for others.
func (h *Provider) Start() error {
	h.listen()
	if err := h.api.SetProvider(h.ctx, h.wrapped); err != nil {
		h.stop()
		h.wrapped.release()
		return fmt.Errorf("flags: FromProvider: %w", err)
	}
	go h.follow()
	return nil
}

// listen has the SDK call the Provider for each event. The SDK starts a goroutine for each call. So the order of the calls is not
// certain: only the state of the client is.
func (h *Provider) listen() {
	on := func(event openfeature.EventType, fn func(openfeature.EventDetails)) {
		h.api.AddHandler(event, &fn)
	}
	on(openfeature.ProviderReady, func(openfeature.EventDetails) {
		h.begun.Do(func() {
			h.readyAt = time.Now()
			close(h.ready)
		})
		h.wake()
		h.config.OnState()
	})
	on(openfeature.ProviderConfigChange, func(d openfeature.EventDetails) { h.changed(d.FlagChanges) })
	for _, event := range []openfeature.EventType{openfeature.ProviderError, openfeature.ProviderStale} {
		on(event, func(d openfeature.EventDetails) { h.failed(event, d.Message) })
	}
}

// changed notes that the provider has other values: the values are read, and then OnChange hears of the change.
func (h *Provider) changed(keys []string) {
	h.mu.Lock()
	if h.changes == nil {
		h.changes = map[string]bool{}
	}
	for _, key := range keys {
		h.changes[key] = true
	}
	h.mu.Unlock()
	h.wake()
}

func (h *Provider) failed(event openfeature.EventType, message string) {
	h.mu.Lock()
	h.why[event] = message
	h.mu.Unlock()
	if h.client.State() == openfeature.FatalState {
		h.doomed.Do(func() { close(h.fatal) })
	}
	h.config.OnState()
}

func (h *Provider) wake() {
	select {
	case h.kick <- struct{}{}:
	default: // it is awake, or will be
	}
}

// follow reads the values again and again, until Close.
func (h *Provider) follow() {
	defer close(h.done)
	tick := time.NewTicker(h.config.Poll)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		case <-h.kick:
		}
		h.mu.Lock()
		changes := h.changes
		h.changes = nil
		h.mu.Unlock()
		if h.started() && h.readings.refresh(h.ctx) {
			h.config.OnValues()
		}
		if changes != nil {
			h.config.OnChange(changes)
		}
	}
}

// Close shuts the provider down, once. Close returns after 5 seconds at the latest, with an error if the provider has not ended.
// Close of nil does nothing.
func (h *Provider) Close() error {
	if h == nil {
		return nil
	}
	h.closing.Do(func() {
		h.closed.Store(true)
		h.stop()
		h.closeErr = h.end()
		h.wrapped.release()
	})
	return h.closeErr
}

func (h *Provider) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	err := both(h.wrapped.end(ctx), h.api.Shutdown(ctx))
	for _, ended := range []<-chan struct{}{h.done, h.readings.idle()} {
		select {
		case <-ended:
		case <-ctx.Done():
			err = both(err, errors.New("an evaluation for a weight or a Var has not returned"))
		}
	}
	if err != nil {
		return fmt.Errorf("flags: the provider %s does not shut down: %w", h.Name(), err)
	}
	return nil
}

// both is errors.Join in one line.
func both(a, b error) error {
	if a == nil || b == nil {
		return errors.Join(a, b)
	}
	return fmt.Errorf("%w; %w", a, b)
}

// Name is the name of the provider.
func (h *Provider) Name() string { return h.wrapped.metadata.Name }

// Problem returns why the provider is not ready or stale, and the cause if there is one; "" if the provider is ready.
func (h *Provider) Problem() (reason string, cause error) {
	event := openfeature.ProviderError
	state := h.client.State()
	switch state {
	case openfeature.ReadyState:
		return "", nil
	case openfeature.NotReadyState:
		return string(state) + ": it has not started yet", nil
	case openfeature.StaleState:
		event = openfeature.ProviderStale
	}
	reason = string(state)
	h.mu.Lock()
	defer h.mu.Unlock()
	if why := h.why[event]; why != "" {
		reason += ": " + why
	}
	if !h.IsReady() {
		cause = h.wrapped.startError()
	}
	return reason, cause
}

// Wait waits until the provider is ready for the first time, says that it never will be, or ctx ends. Close ends Wait too.
func (h *Provider) Wait(ctx context.Context) {
	select {
	case <-h.ready:
	case <-h.fatal:
	case <-h.ctx.Done():
	case <-ctx.Done():
	}
}

// IsReady reports whether the provider is ready, or was ready before.
func (h *Provider) IsReady() bool {
	select {
	case <-h.ready:
		return true
	default:
		return false
	}
}

// started reports whether Init of the provider has returned.
func (h *Provider) started() bool { return h.client.State() != openfeature.NotReadyState }

// Kept returns the values that are the same for everybody, for another generation.
func (h *Provider) Kept() map[string]any {
	return h.kept.all(!h.IsReady() || time.Since(h.readyAt) < passOn)
}

// Keep takes what Kept of another generation has returned.
func (h *Provider) Keep(values map[string]any) {
	h.kept.set(values)
	h.readings.inherit(values)
}

// Track passes an event on to the provider, if the provider tracks events.
func (h *Provider) Track(ctx context.Context, name string, ec openfeature.EvaluationContext,
	details openfeature.TrackingEventDetails) {
	h.client.Track(ctx, name, ec, details)
}
