// Package sockbuf asks the kernel what the buffers of a socket hold: what has arrived and was not read, and what was
// written and is not acknowledged.
//
// Both functions leave the connection as it is: no byte is taken from it, no deadline is set, and it is not closed.
// Neither function blocks, not even while another goroutine waits in a Read or a Write of the same connection. Both may be
// called from any goroutine, and with a connection that is closed.
//
// Package internal/sys asks some of this too, for package upgrade; this package needs the standard library only, as drain does.
package sockbuf
