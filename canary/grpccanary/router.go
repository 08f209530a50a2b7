package grpccanary

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"google.golang.org/grpc"

	"github.com/midair-go/midair/canary"
)

// A Router sends each call to the stable or to the canary side. A Router has to be made by NewRouter.
type Router struct {
	core *canary.Router
	asks bool // a function of the options looks at requests
}

// NewRouter returns a Router. One Router may serve several services: Status counts their calls together.
//
// A Cookie is an error, and so is a Rescue without Also: every call is a POST, so nothing would be rescued.
func NewRouter(opts canary.Options) (*Router, error) {
	if opts.Cookie != nil {
		return nil, errors.New("grpccanary: Options.Cookie is set, but clients of gRPC keep no cookies: use Options.Key")
	}
	if opts.Rescue != nil && opts.Rescue.Also == nil {
		return nil, errors.New("grpccanary: Options.Rescue has no Also, so no call may run twice: set Also, for example to Methods")
	}
	opts.SideInContext = true
	return &Router{
		core: canary.NewRouter(answering(canary.Stable), answering(canary.Canary), opts),
		asks: opts.Choose != nil || opts.Key != nil || opts.SameForAll != nil || opts.Rescue != nil,
	}, nil
}

// Core returns the canary.Router of rt. Use it for Status, and to keep its state over an upgrade. It cannot serve requests.
func (rt *Router) Core() *canary.Router { return rt.core }

// Methods returns a function for Rescue.Also: calls of these full methods, such as "/pkg.Service/Method", may run twice.
func Methods(full ...string) func(*http.Request) bool {
	full = slices.Clone(full)
	return func(r *http.Request) bool { return slices.Contains(full, r.URL.Path) }
}

// UnaryInterceptor passes a call on with its side in the context. It is a grpc.UnaryServerInterceptor. A call that is rescued
// passes the rest of the chain twice.
func (rt *Router) UnaryInterceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	return rt.unary(ctx, info.FullMethod, &unary{req: req, handlers: [2]grpc.UnaryHandler{next, next}})
}

// StreamInterceptor passes a stream on with its side in the context. It is a grpc.StreamServerInterceptor.
func (rt *Router) StreamInterceptor(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	pass := func(ss grpc.ServerStream) error { return next(srv, ss) }
	return rt.stream(info.FullMethod, &streaming{ServerStream: ss, handlers: [2]streamHandler{pass, pass}})
}

// serve lets the canary.Router choose the side that answers a call.
func (rt *Router) serve(ctx context.Context, method string, c *call, by answerer) {
	c.url.Path, c.answerer = method, by
	r := &http.Request{
		Method: http.MethodPost, URL: &c.url, RequestURI: method, Proto: "HTTP/2.0", ProtoMajor: 2, Body: http.NoBody,
	}
	if rt.asks {
		describe(ctx, r)
	}
	rt.core.ServeHTTP(c, r.WithContext(ctx))
}
