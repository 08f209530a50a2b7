// Package grpcdrain is package drain for a *grpc.Server: it serves until a context ends, lets the calls that have begun
// end, and lists the connections that were left when the time was over.
//
//	calls := new(grpcdrain.Observer)
//	gs := grpc.NewServer(grpc.StatsHandler(calls))
//	pb.RegisterGreeterServer(gs, greeter{})
//	srv := grpcdrain.NewServer(gs, drain.Options{})
//	srv.Observe(calls)
//	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
//	defer stop()
//	err := srv.Serve(ctx, ln)
//
// Calls that clients send meanwhile are not lost: grpc-go announces the end of a connection in two steps, and answers the
// calls that arrive between the two. After the first step, streams learn of the drain: a client whose stream ends then opens
// the stream again on another connection. A handler of a long stream waits for drain.FromContext(stream.Context()).Begun(),
// if there is an [Observer], or for [Server.Draining], and ends the stream with a status. When Grace has run out, the
// contexts of all calls are cancelled. A handler has a quarter of a second to end its call with a status; then the
// connection is closed.
//
// TLS hides the first step. Over TLS, streams learn of the drain a tenth of a second after the first step has begun.
//
// # Goroutines
//
// Serve blocks, and returns after the last goroutine that it started. Draining and Core may be called from any goroutine.
package grpcdrain
