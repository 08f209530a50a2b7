package flags

import (
	"context"
	"sync"

	"github.com/midair-go/midair/flags/internal/moment"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
)

// With returns a context that says who flags are evaluated for: key is what percentages go by, a user's id for example, and attrs
// are what rules can ask for. It is the transaction context of OpenFeature, so every client sees it as well. What ctx said before
// stays where this says nothing.
//
// All evaluations by f in the context see the values of one moment: the moment of the Middleware of package httpflags, or of the
// outermost With. A change of the files and an override count for the next request. A handler that goes on for long calls Renew
// now and then. If there are no values at that moment, all evaluations in the context give the defaults. In a program with package
// httpflags, a request of a server has a moment of its own also if the context of the whole server comes from With.
func (f *Flags) With(ctx context.Context, key string, attrs map[string]any) context.Context {
	ctx = openfeature.MergeTransactionContext(ctx, openfeature.NewEvaluationContext(key, attrs))
	if _, p := f.at(ctx); p != nil && (p.Request || !moment.InServer(ctx)) {
		return ctx
	}
	return f.Renew(ctx)
}

// Renew returns a context in which all evaluations by f see the values of this moment: for the messages of a WebSocket, for
// example, and for the steps of a long job.
func (f *Flags) Renew(ctx context.Context) context.Context {
	_, before := f.at(ctx)
	return f.pin(ctx, f.now.Load(), before != nil && before.Request || moment.InServer(ctx))
}

// Provider returns an OpenFeature provider of the flags, for an API that the program sets up itself. A provider belongs
// to one API, so each call returns another one. Its events tell what changed, when a file is refused and when it is
// good again; after Close of the flags there are no more of them.
func (f *Flags) Provider() openfeature.FeatureProvider { return newProvider(f.store) }

// Client returns a client of the OpenFeature SDK for the flags, with hooks and events of its own. Hooks cost time: the
// methods of Flags and of handles give the same values without them.
func (f *Flags) Client() *openfeature.Client { return f.api.client(f.store) }

// api is the OpenFeature API of the clients that Flags gives out. It is nobody else's, so what other code does to the
// SDK's global API does not matter here.
type api struct {
	mu     sync.Mutex
	api    *openfeature.EvaluationAPI
	closed bool
}

func (a *api) client(s *store) *openfeature.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.api == nil {
		a.api = isolated.NewAPI()
		// It fails only while there are no values; the client tells that by its state.
		_ = a.api.SetProviderAndWait(context.Background(), newProvider(s))
		if a.closed {
			_ = a.api.Shutdown(context.Background())
		}
	}
	return a.api.NewClient()
}

func (a *api) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.api != nil {
		_ = a.api.Shutdown(context.Background()) // the own provider has nothing to fail with
	}
}
