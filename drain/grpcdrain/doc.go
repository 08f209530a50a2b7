// Package grpcdrain does for a *grpc.Server what package drain does for an *http.Server. A [Server] serves until a context
// ends, and then waits for the calls that have begun. If Grace runs out first, the error of Serve lists the connections that
// were left. With an [Observer], the error lists the calls too.
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
// Calls that clients send at the beginning of the drain are not lost: grpc-go announces the end of a connection in two steps,
// and answers the calls that arrive between the first and the second. Handlers of streams learn of the drain after the first
// step. If a stream ends then, the client opens the next stream on another connection. Before the first step, the client would
// open the next stream on the same connection.
//
// A handler of a long stream waits for the drain, and then ends the stream with a status. With an [Observer], the handler waits
// for drain.FromContext(stream.Context()).Begun(); without an Observer, for [Server.Draining]. When Grace has run out, the
// contexts of all calls that an [Observer] sees are cancelled. A handler then has a quarter of a second to end its call with a
// status, before the connection is closed.
//
// On a connection with TLS, the Server cannot see whether the first step was sent. So if any connection has TLS, the handlers
// of all streams learn of the drain at most a tenth of a second after grpc-go was told to stop.
//
// # Goroutines
//
// Serve returns after all goroutines that it has started have ended. Draining and Core may be called from any goroutine.
package grpcdrain
