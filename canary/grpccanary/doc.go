// Package grpccanary does for gRPC what package canary does for HTTP: it sends a share of the calls to a new implementation of a
// service and the others to the old one, within one process.
//
//	rt, err := grpccanary.NewRouter(canary.Options{
//		Name:   "greeter-v2",
//		Weight: canary.Fixed(0.05),
//		Key:    func(r *http.Request) string { return r.Header.Get("User") },
//		Rescue: &canary.Rescue{Also: grpccanary.Methods(pb.Greeter_SayHello_FullMethodName)},
//	})
//	if err != nil {
//		return err
//	}
//	grpccanary.Register[pb.GreeterServer](rt, gs, pb.RegisterGreeterServer, oldGreeter, newGreeter)
//
// # A call is a request
//
// The functions in [canary.Options] get a request that describes the call: POST with the full method as URL.Path, such as
// "/pkg.Service/Method", the incoming metadata as Header, :authority as Host, RemoteAddr and TLS of the peer, and the context of
// the call with everything that interceptors further out have added. The body is empty: messages are not shown. Weight, Choose,
// Key, Kill, Switch and the counters of [canary.Status] work as for requests.
//
// Three options differ. A Cookie is an error, since clients of gRPC keep no cookies. SideInContext is always set. Vary has no
// effect, since no cache stores the answers; SameForAll lets a call be drawn without its Key.
//
// # Implementations or interceptors
//
// [Register] is the choice between two implementations of a service. The interceptors of the server run once for each
// call, around the choice. [Router.UnaryInterceptor] and [Router.StreamInterceptor] are for handlers that choose themselves, by
// [canary.SideFromContext]. Put both at the end of the chain.
//
// # Outcomes
//
// Options.Observe and Options.Bad get an outcome of each call, and of each stream when the stream ends. Request.URL.Path is the
// full method, Status is the HTTP status that google.rpc.Code names for the code (200 for OK), and Bytes is 0. Options.Begin is
// called before each attempt of a call, and before each stream.
//
// # A new process
//
// The judge of a new process, Processes of package rollout, needs the outcome and the connection of each call. [ConnContext] puts
// the connection into the contexts of calls. A Router without a Weight only observes: all calls go to the one implementation.
//
//	judged, err := grpccanary.NewRouter(canary.Options{Name: "release", Begin: ro.Begin, Observe: ro.Observe})
//	…
//	gs := grpc.NewServer(append(grpccanary.ConnContext(creds, ro.ConnContext),
//		grpc.ChainUnaryInterceptor(judged.UnaryInterceptor), grpc.ChainStreamInterceptor(judged.StreamInterceptor))...)
//
// Put its interceptors before all others, whose errors count then. A stream counts at its end, also one that lasts for hours:
// Options.Ignore of the rollout may leave streams and probes out by URL.Path. The request has no Header there, as no option of the
// Router looks at the metadata, but the metadata is in the context.
//
// # Rescue
//
// With Options.Rescue the stable implementation answers a unary call whose canary panics, or by choice fails with a code, before
// a header was sent. A call may run twice only if Rescue.Also says so, such as the function of [Methods]. Rescue.Status gets the
// HTTP status that google.rpc.Code names for the code: canary.ServerError means Unknown, DeadlineExceeded, Unimplemented,
// Internal, Unavailable and DataLoss. Each implementation gets a message of its own. Headers and trailers of the canary are
// dropped, and goroutines that the canary leaves behind get errors from grpc.SetHeader and the like.
//
// Never rescued are streams, calls whose message is no proto.Message, and calls whose canary has called grpc.SendHeader. While a
// canary may be rescued, grpc.SetSendCompressor and grpc.ClientSupportedCompressors return an error in the canary. A panic that
// is not rescued goes on to the interceptors; grpc-go does not recover. An interceptor that recovers belongs before the choice,
// because the router cannot see a panic that was caught further in.
//
// # Goroutines
//
// The package starts none. All functions and methods may be called from any goroutine, but Register, as that of a grpc.Server, is
// called before the server serves.
package grpccanary
