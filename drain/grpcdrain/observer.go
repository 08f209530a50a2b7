package grpcdrain

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"github.com/midair-go/midair/drain"
)

// An Observer registers every call with a Server, and puts the notice of the drain into the context of the call. Give the
// Observer both to grpc.NewServer and to the Server, since a grpc.Server does not show its options:
//
//	calls := new(grpcdrain.Observer)
//	gs := grpc.NewServer(grpc.StatsHandler(calls))
//	srv := grpcdrain.NewServer(gs, drain.Options{})
//	srv.Observe(calls)
//
// The zero value is ready, and observes nothing before Observe.
type Observer struct {
	core atomic.Pointer[drain.Server]
}

var _ stats.Handler = (*Observer)(nil)

// Observe registers all calls that begin from now on with s. Call Observe before Serve.
func (s *Server) Observe(o *Observer) { o.core.Store(s.core) }

// callKey is the key of the *call in the context of a call.
type callKey struct{}

type call struct {
	name   string
	cancel context.CancelCauseFunc
	done   func()
}

// TagRPC gives a call the notice of the drain, and a context that is cancelled when Grace has run out: the handler has a
// moment then to end the call with a status.
func (o *Observer) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	core := o.core.Load()
	if core == nil {
		return ctx
	}
	ctx, cancel := context.WithCancelCause(core.Context(ctx))
	return context.WithValue(ctx, callKey{}, &call{name: info.FullMethodName, cancel: cancel})
}

// HandleRPC notes the beginning and the end of a call.
func (o *Observer) HandleRPC(ctx context.Context, event stats.RPCStats) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return
	}
	switch e := event.(type) {
	case *stats.Begin:
		entry := drain.Entry{Protocol: "grpc", Name: c.name, Since: e.BeginTime}
		if p, ok := peer.FromContext(ctx); ok {
			entry.Remote = p.Addr.String()
		}
		if done, err := o.core.Load().Track(entry, c.cancel); err == nil {
			c.done = done
		}
	case *stats.End:
		if c.done != nil {
			c.done()
		}
		c.cancel(nil)
	}
}

// TagConn does nothing: connections are seen by the listener.
func (o *Observer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (o *Observer) HandleConn(context.Context, stats.ConnStats) {}
