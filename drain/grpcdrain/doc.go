// Package grpcdrain is package drain for a *grpc.Server: it serves until a context ends, lets the calls that have begun
// end, and says which connections were left when the time was over.
//
// Calls that clients send meanwhile are not lost: grpc-go announces the end of a connection in two steps and answers what
// arrives in between. When the first is out, streams learn of the drain: a client whose stream ends then opens it again on
// another connection. A handler of a long stream watches drain.FromContext(stream.Context()), which an [Observer] puts
// there, or [Server.Draining], and ends it with a status. What goes on when Grace has run out has its context cancelled,
// and a quarter of a second to end with a status; then its connection is closed.
//
// Over TLS it cannot be seen when the first announcement is out; streams are told a tenth of a second after it was begun.
//
// # Goroutines
//
// Serve blocks, and returns after the last goroutine that it started. Draining and Core may be called from any goroutine.
package grpcdrain
