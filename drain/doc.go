// Package drain serves an [http.Server] and ends it without losing a request.
//
// [http.Server.Shutdown] closes idle connections while a request may be on its way to them, and it drops a request
// that was read completely if the stop began a moment earlier. A [Server] does neither. When the context of its Serve
// ends, it stops to accept, answers whatever arrives on the connections it has with "Connection: close", closes a
// connection only when nothing was sent to it for [Options.IdleGrace], and returns as soon as the last one has gone.
//
//	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
//	defer stop()
//	err := drain.NewServer(&http.Server{Addr: ":8080", Handler: mux}, drain.Options{}).ListenAndServe(ctx)
//
// # Words
//
// A connection is new until the first request on it was read, active while a request is being answered, idle between
// two requests, hijacked once a handler took it over. The ledger is the list of all of them. A drain is the time from
// the end of the context to the return of Serve.
//
// # Two ways to stop
//
// A plain stop is the end of the service here. The server becomes a lame duck: [Server.Readiness] answers 503 from its
// first moment, and it goes on to accept for [Options.Propagation], so that load balancers learn of it. Then it takes
// what is in the accept queue, for a second at most, and closes the listener.
//
// A handover is the end of this process only: another one serves the same socket. It is told apart by the cause of the
// context: an error with the method Handover() bool, found by errors.As in [context.Cause], that answers true. Then
// readiness does not change, there is no propagation, and the listener is closed at once, since whatever is in
// the accept queue is the successor's.
//
// # What a client can rely on
//
// A request that arrived, in whole or in part, is answered as long as the answer is complete within [Options.Grace]. An
// answer to a request that began after the drain did carries "Connection: close", and the connection then is closed in
// the order that lets the client read all of it: half close, read to the end, close. An idle connection
// is closed if it was idle for IdleGrace and the kernel holds no byte of a next request. What remains is the
// time that a request needs to travel: a client that ends a silence of IdleGrace in the same instant can meet the close.
//
// Grace ends in good order too: idle connections are closed shortly before, whatever their age. What goes on at
// its end is cut, and Serve returns a [*TimeoutError] that lists it.
//
// Some things look like the beginning of a request and are none: one to three bytes after the last answer, a line end
// too many for instance, keep a connection for one more IdleGrace. Over TLS less can be seen. A new connection of which
// nothing was heard for IdleGrace is closed even if a part of its first request came after the handshake; the client
// gets the status 400. Of a later request the bytes count that came in complete records of TLS.
//
// A request for "OPTIONS *" is answered by net/http itself, so without the announcement, unless
// DisableGeneralOptionsHandler is set.
//
// # HTTP/2
//
// With and without TLS an HTTP/2 connection is told its end in two steps. First comes a GOAWAY that refuses no stream, and
// a PING. Streams that the client opens before it has read them are answered, and when it has answered the PING and there
// was no stream for 0.1 seconds, or after five seconds, net/http sends its own GOAWAY and ends the connection. A
// client that does not answer and never opened a stream is given 0.8 seconds. A connection that comes late, after a
// handshake that took its time, is told in the same way.
//
// That needs the HTTP/2 of net/http. With a function of the user's for "h2" in TLSNextProto, or with a net/http that is
// not known, "Connection: close" makes the server announce the end in one step, which cuts streams that are on their way;
// [Status] tells which it is. Neither the http.Server nor a function of the user's is replaced.
//
// # Streams
//
// A drain cancels no request: handlers learn nothing of it before Grace has run out. A handler that streams, or that
// waits for events, watches the context that Serve got, and ends its answer when that ends:
//
//	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
//		for {
//			select {
//			case e := <-events:
//				fmt.Fprintf(w, "data: %s\n\n", e)
//				http.NewResponseController(w).Flush()
//			case <-ctx.Done(): // of Serve: the client connects again, elsewhere
//				return
//			case <-r.Context().Done():
//				return
//			}
//		}
//	})
//
// # Hooks
//
// Handler, ConnState and ConnContext of the http.Server are chained when the first Serve begins, and the user's own are
// called as before, with the connection that the listener gave. After ServeTLS that is the *tls.Conn of net/http; its
// NetConn is a wrapper, whose own NetConn method returns the connection of the listener. Without TLS, [http.Hijacker]
// gives out that wrapper; it counts as here until its Close. ConnState is told StateClosed for a connection that moved
// as well.
//
// Functions of RegisterOnShutdown start once no connection but hijacked ones is left, or when Grace has run out, just
// before the cut. Nobody waits for them. Do not call Serve, Shutdown or Close of the http.Server itself.
//
// To ask an idle connection to end, a drain sets a read deadline in the past and puts the old one back. So a Read of the
// listener's connections must work again after a deadline, as net/http wants it after each request too. For those that
// implement [syscall.Conn] it is taken as given; others, such as wrappers that read a header of their own first, are
// asked only when they are due.
//
// Give Serve listeners of plain connections and let ServeTLS add TLS. A listener of *tls.Conn works, but the
// wrapper cannot be placed below its TLS: an idle connection is closed by its age alone, and a hijacked one is
// not waited for.
//
// # Goroutines
//
// All methods may be called from any number of goroutines. Serve, ServeTLS and ListenAndServe may run several times
// at once on one Server, one for each listener; the first context that ends begins the drain of all, and so does a
// listener that fails. Each returns after its accept loop, the goroutines of all connections and the closing of the last
// of them have ended. There is one exception: a handler, or a Move, that goes on half a second after Grace ran out and
// the context of the request was cancelled is left behind. Outside of Serve the package runs nothing. Move is called from
// the goroutine of the connection it is about, so from several at once.
package drain
