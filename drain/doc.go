// Package drain serves an [http.Server] and ends it without losing a request.
//
// [http.Server.Shutdown] closes idle connections while a request may be on its way to them, and it drops a request
// that was read completely if the stop began a moment earlier. A [Server] does neither. When the context of its Serve
// ends, it stops to accept, answers whatever arrives on the connections it has with "Connection: close", closes a
// connection only when nothing was sent to it for [Options.IdleGrace], and returns as soon as the last connection has gone.
//
//	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
//	defer stop()
//	err := drain.NewServer(&http.Server{Addr: ":8080", Handler: mux}, drain.Options{}).ListenAndServe(ctx)
//
// The same drain ends HTTP/2, WebSockets, event streams, raw connections and jobs, each in its own way; package grpcdrain
// adds gRPC.
//
// # Words
//
// A connection is new until the first request on it was read, active while a request is being answered, idle between
// two requests, hijacked once a handler took it over. The registry is the list of everything that a drain waits for:
// connections, streams of HTTP/2, jobs. [Server.Entries] shows it, and [Server.Status] counts it. A drain is the time from
// the end of the context to the return of Serve.
//
// # Two ways to stop
//
// A plain stop is the end of the service here. The server becomes a lame duck: [Server.Readiness] answers 503 from its
// first moment, and it goes on to accept for [Options.Propagation], so that load balancers learn of it. Then it takes
// what is in the accept queue, for a second at most, and closes the listener. An operator can have the first part by
// [Server.Drain], and take it back by [Server.Resume], as long as the context lasts.
//
// A handover is the end of this process only: another process serves the same socket. The cause of the context makes the
// difference: an error with the method Handover() bool, found by errors.As in [context.Cause], whose Handover returns true.
// Then readiness does not change, there is no propagation, and the listener is closed at once, since all connections in
// the accept queue are the successor's.
//
// A cause may have a method Draining() (ended func()): Draining is called before everything else, and ended when the drain
// is over. So package upgrade knows that the server does not ignore its context.
//
// # The phases
//
// One budget, [Options.Grace], is for all of them, in this order: not ready, propagation, the end of accepting, notices to
// clients and handlers, the end of requests and streams, that of jobs, [Options.Flush], and then the servers that come
// [Options.After] this one. [Server.Report] says how long each took.
//
// What goes on when Grace has run out is ended step by step, each for what the step before did not end: the context is
// cancelled with [ErrExpired], then a handler has a quarter of a second to end its answer; reads and writes fail; the
// connection is closed on the side of the server, and then as a whole. An answer of HTTP/1 that is not complete is ended
// by a reset instead, since it would look complete where its end is the end of the connection. Serve returns a
// [*TimeoutError] that lists all of it, with the step that ended it. That takes half a second, and as much again if
// a handler does not return.
//
// # What a client can rely on
//
// A request that arrived, in whole or in part, is answered as long as the answer is complete within [Options.Grace]. An
// answer to a request that began after the drain did carries "Connection: close", and the connection then is closed in
// the order that lets the client read all of it: half close, read to the end, close. An idle connection
// is closed if it was idle for IdleGrace and the kernel holds no byte of a next request. What remains is the
// time that a request needs to travel: a client that ends a silence of IdleGrace in the same instant can meet the close.
//
// A connection of which nothing at all was heard since it was accepted is given 0.8 seconds, unless IdleGrace is set. The
// first request of a client that has one follows its handshake at once, be it sent a second time; one that was opened in
// advance may be used at any moment, and can meet the close whatever the time is. Such a client sees the connection end
// before any answer on it.
//
// A close looks at what the kernel holds: a client that takes its last answer slowly is waited for as long as bytes of it
// are not acknowledged, then for one more second until it closes.
//
// Grace ends in good order too: idle connections are closed shortly before, whatever their age.
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
// was no stream for 0.3 seconds, or after five seconds, net/http sends its own GOAWAY and ends the connection. A
// client that does not answer and never opened a stream is given 0.8 seconds. A connection that comes late, after a
// handshake that took its time, is told in the same way.
//
// That needs the HTTP/2 of net/http. With a function of the user's for "h2" in TLSNextProto, or with a net/http that is
// not known, "Connection: close" makes the server announce the end in one step, which cuts streams that are on their way;
// [Status] says which of the two happens. Neither the http.Server nor a function of the user's is replaced.
//
// # Handlers
//
// A drain cancels no request before Grace has run out. A handler that has no end of its own learns of the drain by
// [FromContext], and how long it has:
//
//	notice := drain.FromContext(r.Context())
//	select {
//	case job := <-queue:
//	case <-notice.Begun(): // the client comes back, elsewhere
//	case <-r.Context().Done():
//	}
//
// Event streams, for which a GET without a body has the header "Accept: text/event-stream", end by themselves: between two
// events the client is told to come back after half a second to two and a half, the answer ends, the context of the
// request is cancelled with [ErrClosed], and what the handler still writes is refused. One that is asked for in the drain
// gets nothing but that. A POST with that header is no EventSource: it is served to its end like any other request, and so
// is all that may have side effects.
//
// WebSockets over HTTP/1.1 are closed with status 1012, service restart, between two messages, a hundred a second or as
// many as half of Grace needs; the library of the server learns it by the answer of the client, as any close. A message
// that it writes after is refused. A client that does not answer has five seconds. New ones get the status 503 with
// Retry-After. [Options.KeepWebSockets] leaves all that to the handlers.
//
// Raw connections ([Server.ServeTCP]) end when nothing was said for IdleGrace, or as their handler wants. Another server,
// such as one of gRPC, can have its connections in the same drain by [Server.ServeFunc], and jobs are waited for if
// they were begun by [Server.Go].
//
// # Hooks
//
// Handler, ConnState and ConnContext of the http.Server are chained when the first Serve begins, and the user's own are
// called as before, with the connection that the listener gave. After ServeTLS that is the *tls.Conn of net/http; its
// NetConn is a wrapper, whose own NetConn method returns the connection of the listener. Without TLS, [http.Hijacker]
// gives out that wrapper, and for a WebSocket another one around either; it counts as here until its Close. ConnState is told
// StateClosed for a connection that moved as well.
//
// The wrapper has every method of *net.TCPConn or *net.UnixConn, if the listener gave one, and so has what ServeTCP, ServeFunc
// and Hijack for a WebSocket without TLS give. What a program does by SyscallConn or File is not counted. After SetLinger(0) a
// Close resets the connection, and after File it closes and no more, in a drain as well. WriteMsgUnix of a WebSocket writes
// bytes only.
//
// The kernel copies what package net lets it copy, with exceptions that go through a buffer. Package net wants its own types
// for a copy of a file to a unix socket, and of a foreign TCP connection to a unix socket or from it. And a drain
// has to see what passes when a pipe is copied to a connection of Hijack or ServeTCP, a TCP connection of ServeTCP to a unix
// socket, or anything to a WebSocket. Bytes are counted at the end of the Write or of the part of a copy that moved them. A
// part is what a socket has at a time, or at most 4 MiB of a file; a copy of a hijacked TCP connection to a unix socket is
// one part.
//
// Functions of RegisterOnShutdown start once no connection but hijacked ones is left, or when Grace has run out, just
// before the cut. A drain does not wait for these functions. Do not call Serve, Shutdown or Close of the http.Server itself.
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
// of them have ended. There is one exception: a handler, a job or a Move that goes on a second after Grace ran out is left
// behind. Outside of Serve the package runs nothing but the jobs of Go. Move is called from
// the goroutine of the connection it is about, so from several at once.
package drain
