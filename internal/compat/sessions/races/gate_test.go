package races

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/midair-go/midair/session"
)

// A gate holds one request at a point until the test opens it.
type gate struct {
	at      string // "handler", or the operation of the store that has to wait
	once    sync.Once
	reached chan struct{}
	open    chan struct{}
}

type gateKey struct{}

// pass waits at a point of the request, if that is the point of the gate. The end of the request counts as every point: the
// request did not come by.
func (g *gate) pass(point string) {
	if point != g.at && point != "end" {
		return
	}
	g.once.Do(func() {
		close(g.reached)
		if point != "end" {
			<-g.open
		}
	})
}

// gates are those of a site, by name.
type gates struct {
	mu  sync.Mutex
	all map[string]*gate
}

// of returns the gate that a request names, whoever comes first.
func (g *gates) of(r *http.Request) *gate {
	name := r.FormValue("gate")
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = map[string]*gate{}
	}
	if g.all[name] == nil {
		g.all[name] = &gate{reached: make(chan struct{}), open: make(chan struct{})}
	}
	if at := r.FormValue("at"); at != "" {
		g.all[name].at = at
	}
	return g.all[name]
}

// A gated store stops at the gate of a request.
type gated struct{ session.Store }

func pass(ctx context.Context, op string) {
	if g, ok := ctx.Value(gateKey{}).(*gate); ok {
		g.pass(op)
	}
}

func (s gated) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	pass(ctx, "create")
	return s.Store.Create(ctx, id, data, expires)
}

func (s gated) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	pass(ctx, "swap")
	return s.Store.Swap(ctx, id, rev, data, expires)
}

func (s gated) Touch(ctx context.Context, id string, expires time.Time) error {
	pass(ctx, "touch")
	return s.Store.Touch(ctx, id, expires)
}

// Secret is that of the engine, if it has one.
func (s gated) Secret(ctx context.Context) ([]byte, error) {
	if k, ok := s.Store.(interface {
		Secret(context.Context) ([]byte, error)
	}); ok {
		return k.Secret(ctx)
	}
	return []byte("one secret for all processes of a test"), nil
}
