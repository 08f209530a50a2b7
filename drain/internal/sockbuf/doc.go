// Package sockbuf asks the kernel what the buffers of a socket hold: bytes that have arrived and were not read, and bytes that
// were written and are not acknowledged.
//
// Queued, Unsent and a Waiter do not change the connection: they read no byte, set no deadline and do not close it. Queued and
// Unsent do not block, not even while another goroutine waits in a Read or a Write of the same connection. Both may be called
// from any goroutine, also for a closed connection. A Waiter blocks as a Read does, and must be used by a single goroutine.
//
// Package internal/sys has similar functions for package upgrade. Package drain does not use internal/sys, which needs the
// module golang.org/x/sys: package drain works with the standard library only.
package sockbuf
