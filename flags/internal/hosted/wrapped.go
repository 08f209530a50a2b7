package hosted

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
)

// initGrace is how long Close waits for an Init that knows that it should end, before it shuts the provider down.
const initGrace = time.Second

// A wrapped provider is what the SDK gets in place of the provider of FromProvider.
//
// The SDK calls Init in a goroutine in which a panic would end the program, and calls Shutdown with a lock that all evaluations
// need and without a limit of time. Here a panic is an error, and Shutdown is called by end.
type wrapped struct {
	openfeature.FeatureProvider
	metadata openfeature.Metadata
	log      *slog.Logger

	started chan struct{} // closed when Init has returned
	initErr atomic.Value  // a box with what Init has returned
}

// A box makes values of several types one type.
type box struct{ err error }

var (
	_ openfeature.ContextAwareStateHandler = (*wrapped)(nil)
	_ openfeature.EventHandler             = (*wrapped)(nil)
	_ openfeature.Tracker                  = (*wrapped)(nil)
)

// inUse has the providers that serve Flags, by their address. Two users of a provider would take each other's events.
var inUse sync.Map

func wrap(p openfeature.FeatureProvider, log *slog.Logger) (*wrapped, error) {
	metadata, err := metadataOf(p)
	if err != nil {
		return nil, fmt.Errorf("flags: FromProvider: the provider %T does not tell its name: %w", p, err)
	}
	w := &wrapped{FeatureProvider: p, metadata: metadata, log: log, started: make(chan struct{})}
	if at := address(p); at != 0 {
		if _, used := inUse.LoadOrStore(at, true); used {
			return nil, fmt.Errorf("flags: FromProvider: the provider %s serves other Flags: make another provider", w.metadata.Name)
		}
	}
	return w, nil
}

func metadataOf(p openfeature.FeatureProvider) (m openfeature.Metadata, err error) {
	defer asError("Metadata", &err)
	return p.Metadata(), nil
}

// release lets other Flags have the provider.
func (w *wrapped) release() { inUse.Delete(address(w.FeatureProvider)) }

// address returns what distinguishes a provider from others, or 0: different values without a size may have the same address.
func address(p openfeature.FeatureProvider) uintptr {
	v := reflect.ValueOf(p)
	if v.Kind() != reflect.Pointer || v.Type().Elem().Size() == 0 {
		return 0
	}
	return v.Pointer()
}

// Metadata is what the provider said first.
func (w *wrapped) Metadata() openfeature.Metadata { return w.metadata }

// Init starts the provider.
func (w *wrapped) Init(ec openfeature.EvaluationContext) error {
	return w.InitWithContext(context.Background(), ec)
}

// InitWithContext starts the provider. A panic is an error.
func (w *wrapped) InitWithContext(ctx context.Context, ec openfeature.EvaluationContext) (err error) {
	defer close(w.started)
	defer func() { w.initErr.Store(box{err}) }()
	defer asError("Init", &err)
	switch p := w.FeatureProvider.(type) {
	case openfeature.ContextAwareStateHandler:
		return p.InitWithContext(ctx, ec)
	case openfeature.StateHandler:
		return p.Init(ec)
	}
	return nil
}

// startError returns what Init has returned; nil before.
func (w *wrapped) startError() error {
	b, _ := w.initErr.Load().(box)
	return b.err
}

// Shutdown does nothing: end does.
func (w *wrapped) Shutdown() {}

// ShutdownWithContext does nothing: end does.
func (w *wrapped) ShutdownWithContext(context.Context) error { return nil }

// EventChannel is that of the provider, if it has events.
func (w *wrapped) EventChannel() <-chan openfeature.Event {
	if p, ok := w.FeatureProvider.(openfeature.EventHandler); ok {
		return p.EventChannel()
	}
	return nil
}

// Track passes an event on, if the provider tracks events. A panic is logged.
func (w *wrapped) Track(ctx context.Context, name string, ec openfeature.EvaluationContext, details openfeature.TrackingEventDetails) {
	p, ok := w.FeatureProvider.(openfeature.Tracker)
	if !ok {
		return
	}
	var err error
	defer func() {
		if err != nil {
			w.log.Error("flags: an event is not tracked", slog.String("provider", w.metadata.Name), slog.String("event", name), slog.Any("err", err))
		}
	}()
	defer asError("Track", &err)
	p.Track(ctx, name, ec, details)
}

// end shuts the provider down, and waits until Init and Shutdown have returned or ctx ends.
func (w *wrapped) end(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- w.shutDown(ctx) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = errors.New("Shutdown has not returned")
	}
	select {
	case <-w.started:
	case <-ctx.Done():
		err = both(err, errors.New("Init has not returned"))
	}
	return err
}

func (w *wrapped) shutDown(ctx context.Context) (err error) {
	defer asError("Shutdown", &err)
	switch p := w.FeatureProvider.(type) {
	case openfeature.ContextAwareStateHandler:
		grace := time.NewTimer(initGrace)
		defer grace.Stop()
		select {
		case <-w.started:
		case <-grace.C:
		}
		return p.ShutdownWithContext(ctx)
	case openfeature.StateHandler:
		p.Shutdown() // also during Init, which may wait for Shutdown: there is no other sign
	}
	return nil
}

// asError makes a panic the error of a method.
func asError(method string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: %w: %v", method, ErrPanic, r)
	}
}
