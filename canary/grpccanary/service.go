package grpccanary

import (
	"context"
	"slices"

	"google.golang.org/grpc"
)

// Register registers a service with two implementations, and each call goes to one of them:
//
//	grpccanary.Register[pb.GreeterServer](rt, gs, pb.RegisterGreeterServer, oldGreeter, newGreeter)
//
// Register calls the generated function with the stable implementation, and takes the place of pb.RegisterGreeterServer(gs,
// oldGreeter). The interface T has to be written, as in the example. UnaryServerInfo.Server is the stable implementation for
// both sides. For a release without a canary, the canary implementation may be nil: then the stable implementation is
// registered alone, and the calls of the service are not counted.
func Register[T any](rt *Router, gs grpc.ServiceRegistrar, generated func(grpc.ServiceRegistrar, T), stable, canary T) {
	if any(canary) != nil {
		gs = &registrar{gs, rt, canary}
	}
	generated(gs, stable)
}

// A registrar registers services whose calls rt distributes.
type registrar struct {
	grpc.ServiceRegistrar
	rt     *Router
	canary any
}

// RegisterService registers a copy of the description whose handlers choose between the implementations.
func (r *registrar) RegisterService(desc *grpc.ServiceDesc, stable any) {
	d := *desc
	d.Methods, d.Streams = slices.Clone(d.Methods), slices.Clone(d.Streams)
	for i := range d.Methods {
		m := &d.Methods[i]
		m.Handler = r.rt.method("/"+d.ServiceName+"/"+m.MethodName, m.Handler, r.canary)
	}
	for i := range d.Streams {
		s := &d.Streams[i]
		s.Handler = r.rt.streams("/"+d.ServiceName+"/"+s.StreamName, s.Handler, r.canary)
	}
	r.ServiceRegistrar.RegisterService(&d, stable)
}

// method returns a handler that lets rt choose inside the interceptors of the server.
func (rt *Router) method(full string, generated grpc.MethodHandler, canary any) grpc.MethodHandler {
	return func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		inner := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, stable grpc.UnaryHandler) (any, error) {
			choose := func(ctx context.Context, req any) (any, error) {
				return rt.unary(ctx, full, &unary{req: req, handlers: [2]grpc.UnaryHandler{stable, bind(generated, canary)}})
			}
			if interceptor == nil {
				return choose(ctx, req)
			}
			return interceptor(ctx, req, info, choose)
		}
		return generated(srv, ctx, dec, inner)
	}
}

// bind returns the handler of an implementation, for decoded messages.
func bind(generated grpc.MethodHandler, impl any) grpc.UnaryHandler {
	return func(ctx context.Context, req any) (any, error) {
		decoded := func(any) error { return nil }
		inner := func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(ctx, req)
		}
		return generated(impl, ctx, decoded, inner)
	}
}

// streams returns a handler that lets rt choose. The interceptors of the server are around the handler.
func (rt *Router) streams(full string, generated grpc.StreamHandler, canary any) grpc.StreamHandler {
	return func(srv any, ss grpc.ServerStream) error {
		return rt.stream(full, &streaming{ServerStream: ss, handlers: [2]streamHandler{
			func(ss grpc.ServerStream) error { return generated(srv, ss) },
			func(ss grpc.ServerStream) error { return generated(canary, ss) },
		}})
	}
}
