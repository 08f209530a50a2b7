// Package grpcdrain is package drain for a *grpc.Server: it serves until a context ends, lets the calls that have begun
// end, and says which connections were left when the time was over.
//
// Calls that clients send meanwhile are not lost: grpc-go announces the end of a connection in two steps and answers what
// arrives in between. A stream lasts as long as its handler, so a handler of a long one should end it with a status when
// [Server.Draining] is closed; what is left after Grace is cut.
//
// # Goroutines
//
// Serve blocks, and returns after the last goroutine that it started. Draining may be called from any goroutine.
package grpcdrain
