// Package sockbuf asks the kernel what the buffers of a socket hold: what has arrived and was not read, and what was
// written and is not acknowledged.
//
// Queued, Unsent and a Waiter leave the connection as it is: no byte is taken from it, no deadline is set, and it is not
// closed. Queued and Unsent do not block, not even while another goroutine waits in a Read or a Write of the same connection.
// They may be called from any goroutine, and with a connection that is closed. A Waiter blocks as a Read does, and is for one
// goroutine.
//
// Package internal/sys asks some of this too, for package upgrade; this package needs the standard library only, as drain does.
package sockbuf
