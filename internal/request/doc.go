// Package request has what canary, flags and session share about one request: a context value and a response writer.
//
// # The slot
//
// A [Slot] is a context with a field for each of the packages. The outermost middleware makes it, and the middlewares further in
// set their fields in the same Slot, so that none of them needs a context and a copy of the request of its own:
//
//	session.Middleware      makes the Slot, sets Session
//	  canary.Router         sets Side
//	    httpflags.Middleware sets Flags
//
// A field is set once and never changed, so that a goroutine which reads a field never sees another value. A middleware that
// finds its field set, because routers or session managers nest, makes a Slot of its own. So does a middleware whose
// ResponseWriter is not the [Writer] of the Slot ([Shared]). [Slot.Outer] leads to the next Slot further out. None of the
// packages imports another one.
//
// A Slot belongs to one attempt to answer the request. [Slot.Again] makes the Slot for a second attempt. This Slot has the fields
// that were set before the first attempt began, and none that the first attempt set: goroutines which the first attempt left
// behind share only what was there before.
//
// # The writer
//
// A [Writer] wraps the ResponseWriter of the request. The Writer knows the status and the number of bytes of the answer, and calls
// each [Hook] just before the header is sent, because handlers may replace header lines until then. A middleware that is called
// with a ResponseWriter of this package adds its hook there. With any other ResponseWriter, the one of a middleware in between
// for example, it makes a Writer of its own.
//
// # Locks
//
// The lock of a Writer is held while its hooks run, so a hook may take a lock of its own package, and a package must not call a
// Writer while it holds that lock.
package request
