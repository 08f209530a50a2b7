package grpcdrain

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"github.com/midair-go/midair/drain"
)

// An Observer registers every call with a Server, and puts the drain.Notice of the Server into the context of the call. Give
// the Observer both to grpc.NewServer and to the Server, since a Server cannot find it in the options of a grpc.Server:
//
//	calls := new(grpcdrain.Observer)
//	gs := grpc.NewServer(grpc.StatsHandler(calls))
//	srv := grpcdrain.NewServer(gs, drain.Options{})
//	srv.Observe(calls)
//
// The zero value is ready for use, and does nothing until Observe is called.
type Observer struct {
	core atomic.Pointer[drain.Server]
}

var _ stats.Handler = (*Observer)(nil)

// Observe connects o with s: each call that begins from now on is registered with s. Call Observe before Serve.
func (s *Server) Observe(o *Observer) { o.core.Store(s.core) }

// callKey is the key of the *call in the context of a call.
type callKey struct{}

type call struct {
	name   string
	cancel context.CancelCauseFunc
	done   func()
}

// TagRPC returns the context of a call. The context has the drain.Notice. When Grace has run out, the context is cancelled with
// drain.ErrExpired, also for a call that begins later. The connection is closed a moment later, so that the handler can end the
// call with a status.
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
		done, err := o.core.Load().Track(entry, c.cancel)
		if err != nil { // the drain is over or Grace has run out: nothing waits for this call, and its connection is about to be closed
			c.cancel(drain.ErrExpired)
			return
		}
		c.done = done
	case *stats.End:
		if c.done != nil {
			c.done()
		}
		c.cancel(nil)
	}
}

// TagConn does nothing: the listener of the Server registers the connections.
func (o *Observer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (o *Observer) HandleConn(context.Context, stats.ConnStats) {}
