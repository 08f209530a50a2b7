// Package drain serves an [http.Server] and ends it without losing a request.
//
// [http.Server.Shutdown] closes idle connections while a request may be on its way to them, and it drops a request that was
// read completely if the stop began a moment earlier. A [Server] does neither. When the context of its Serve ends, the Server
// stops accepting. Requests that still arrive are answered, with "Connection: close" in the answer. An idle connection is
// closed only when the client has sent nothing for [Options.IdleGrace]. Serve returns as soon as the last connection is closed.
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
// A plain stop ends the service, not just this process. First the server becomes a lame duck: [Server.Readiness] answers 503
// from the first moment, and the server goes on accepting for [Options.Propagation], so that load balancers have the time to
// notice the 503. Then the server accepts what is in the accept queue, for a second at most, and closes the listener. As long
// as the context has not ended, an operator can make the server a lame duck by [Server.Drain], and ready again by
// [Server.Resume].
//
// A handover ends this process only: another process goes on serving the same socket. The stop is a handover if errors.As
// finds in [context.Cause] of the context an error with a method Handover() bool, and Handover returns true. In a handover
// readiness does not change, there is no propagation, and the listener is closed at once, since the other process accepts
// all connections in the accept queue.
//
// If the cause has a method Draining() (ended func()), the server calls Draining before everything else, and calls the returned
// function ended when the drain is over. By these calls, package upgrade knows that the server does not ignore its context.
//
// # The phases
//
// All phases share one budget, [Options.Grace]. The order is: not ready, propagation, the end of accepting, notices to
// clients and handlers, the end of requests and streams, the end of jobs, [Options.Flush], and then the drains of servers
// that have this server as [Options.After]. [Server.Report] says how long each phase took.
//
// Requests, connections and jobs that are unfinished when Grace has run out are ended step by step. Each step is taken only
// against what the step before did not end. First the context is cancelled with [ErrExpired], and a handler has a quarter of a
// second to end its answer. Then reads and writes fail. Then the server closes its side of the connection, and at last the
// whole connection. An incomplete answer of HTTP/1 is ended by a reset instead: if the end of the connection marks the end of
// the answer, the client would take the answer as complete. Serve returns a [*TimeoutError] that lists everything unfinished,
// with the last step against each entry. All steps together take about half a second, and up to half a second more if a handler
// does not return.
//
// # What a client can rely on
//
// A request that arrived, in whole or in part, is answered, provided that the answer is complete within [Options.Grace]. If
// the request began during the drain, its answer carries "Connection: close". After the answer the connection is closed in
// an order that lets the client read the whole answer: half close, read to the end, close. An idle connection is closed if
// it was idle for IdleGrace and the kernel holds no byte of a next request. One loss is still possible: after a silence of
// IdleGrace, a request may be on its way at the very moment when the server closes the connection.
//
// A connection on which nothing at all has arrived since it was accepted is closed after 0.8 seconds, unless IdleGrace is
// set. A client that opens a connection because it has a request sends the request right after the handshake, and 0.8
// seconds suffice even if its first packet is lost and sent again. A client that opened the connection in advance may use
// it at any moment, so its first request can meet the close, however long the server waits. Such a client sees the
// connection end before any answer on it.
//
// After the last answer on a connection, the server waits until the client has acknowledged all bytes of the answer, and then
// at most one more second for the client to close. After that it closes the connection.
//
// Idle connections are closed shortly before Grace runs out, even if they were idle for less than IdleGrace. So no idle
// connection is cut when Grace runs out.
//
// One to three bytes after the last answer keep a connection open for one more IdleGrace: they may be the beginning of a
// request, or just a line end too many. Over TLS the server sees less. It does not see where the handshake of a new connection
// ends. So a new connection is closed when no more bytes have arrived for IdleGrace, even if the client has already sent a part
// of its first request. Such a client gets the status 400. Later, the server sees the bytes of a request only when their TLS
// record is complete.
//
// net/http itself answers a request for "OPTIONS *", so the answer does not announce the close, unless
// DisableGeneralOptionsHandler is set.
//
// # HTTP/2
//
// The server announces the end of an HTTP/2 connection in two steps, with and without TLS. In the first step it sends a GOAWAY
// that refuses no stream, and a PING. Streams that the client opens before it has read the two frames are answered. In the
// second step net/http sends its own GOAWAY and ends the connection. The second step follows when the client has answered the
// PING and after that had no stream for 0.3 seconds. If this takes longer than five seconds, the second step follows after five
// seconds. If the client has never opened a stream and does not answer the PING, the second step follows after 0.8 seconds. A
// connection whose handshake ends during the drain gets the same two steps.
//
// The two steps need the HTTP/2 of net/http. If the user's TLSNextProto has a function for "h2", or if the net/http of the
// program is of a version that this package does not know, the end is announced in one step, by "Connection: close" in an
// answer. Streams that are on their way are then lost. [Status] says which of the two happens. The user's own functions in
// TLSNextProto remain.
//
// # Handlers
//
// A drain cancels no request before Grace has run out, except event streams. A handler that would not end by itself learns
// from [FromContext] that the drain has begun, and how much time is left:
//
//	notice := drain.FromContext(r.Context())
//	select {
//	case job := <-queue:
//	case <-notice.Begun(): // end the answer: the client reconnects, to another server
//	case <-r.Context().Done():
//	}
//
// An event stream is the answer to a GET request that has no body and has the header "Accept: text/event-stream". The server
// itself ends event streams. Between two events it asks the client to reconnect after 0.5 to 2.5 seconds, ends the answer,
// cancels the context of the request with [ErrClosed], and refuses later writes of the handler. If a request for an event
// stream comes during the drain, its handler does not run, and the answer only says after what time to reconnect. A POST with
// that header is not treated as an event stream: like every request that may have side effects, it is served to its end.
//
// The server closes WebSockets over HTTP/1.1 with status 1012, service restart, between two messages. It closes a hundred
// WebSockets per second, or more if all of them would take longer than half of Grace. When the client answers the close, the
// program's WebSocket library takes the answer as a close by the client. A message that the library writes after the close is
// refused. If the client does not answer within five seconds, every Read of the library returns io.EOF. A request for a new
// WebSocket gets the status 503 with Retry-After. With [Options.KeepWebSockets] the server does none of this, and the handlers
// end their WebSockets.
//
// A raw connection ([Server.ServeTCP]) ends when no byte has passed for IdleGrace, or when its handler ends it. Another
// server, such as a gRPC server, can have its connections in the same drain by [Server.ServeFunc]. The drain also waits for
// jobs that were started by [Server.Go].
//
// # Hooks
//
// When the first Serve begins, the Server replaces Handler, ConnState, ConnContext and BaseContext of the http.Server by
// functions that call the user's own. The user's functions get the connection that the listener gave, or with ServeTLS the
// *tls.Conn of net/http. The NetConn of that *tls.Conn is a wrapper, and the NetConn of the wrapper is the connection of the
// listener. Without TLS, [http.Hijacker] gives the program the wrapper itself. For a WebSocket, [http.Hijacker] gives a second
// wrapper around the *tls.Conn or the first wrapper. A drain waits for a hijacked connection until its Close. ConnState also
// gets StateClosed for a connection that has moved.
//
// If the listener gave a *net.TCPConn or a *net.UnixConn, the wrapper has all methods of that type. The connections that
// ServeTCP and ServeFunc give have these methods too, and so have WebSockets without TLS. Bytes that a program reads or writes
// through SyscallConn or File are not counted. After SetLinger(0) a Close resets the connection, and after File a Close does
// not wait for the client; both hold in a drain too. WriteMsgUnix of a WebSocket writes no ancillary data.
//
// If package net would let the kernel copy, the wrapper does so too, except for five kinds of copies, which go through a
// buffer. For two kinds, package net needs connections of its own types, and gets a wrapper: from a file to a unix socket, and
// between a unix socket and a TCP connection that does not belong to the Server. For the other three kinds, a drain has to see
// the bytes pass: from a pipe to a connection of Hijack or ServeTCP, from a TCP connection to a unix socket if ServeTCP serves
// one of the two, and from anything to a WebSocket.
//
// Bytes are counted at the end of each Write, and at the end of each part of a copy. A part is what a socket holds at the
// moment, or at most 4 MiB of a file. A copy from a hijacked TCP connection to a unix socket is a single part.
//
// Functions of RegisterOnShutdown start when net/http has no connection left. At this time there may still be hijacked and raw
// connections, connections of ServeFunc, and jobs. If Grace runs out earlier, the functions start before the remaining
// connections are cut. A drain does not wait for these functions. Do not call Serve, Shutdown or Close of the http.Server
// itself.
//
// To find out whether an idle connection can be closed, a drain interrupts its Read by a read deadline in the past, and then
// restores the deadline of net/http. So the listener's connections must be able to read again after a deadline has passed;
// net/http needs this too, after each request. The server assumes this of connections that implement [syscall.Conn]. Other
// connections, such as wrappers that read a header of their own first, are interrupted only when they are due to be closed.
//
// Give Serve listeners of plain connections and let ServeTLS add TLS. A listener of *tls.Conn works, but the Server cannot put
// its wrapper below the TLS. So an idle connection is closed after IdleGrace without a look at what the kernel holds. And a
// drain waits for a hijacked connection only if the connection is a WebSocket.
//
// # Goroutines
//
// All methods may be called from any number of goroutines. Serve, ServeTLS, ListenAndServe, ServeTCP and ServeFunc may run
// several times at once on one Server, once for each listener. The drain of all listeners begins when the first of the contexts
// ends, or when a listener fails. Each call returns after its accept loop and the goroutines of all connections have ended and
// the last connection is closed. There is one exception: Serve does not wait for a handler, a job or a Move that still runs a
// second after Grace has run out. While no Serve runs, the package runs nothing but the jobs of Go. The goroutine of a
// connection calls Move for it, so several goroutines may call Move at once.
package drain
