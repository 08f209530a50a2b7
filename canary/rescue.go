package canary

import (
	"net/http"

	"github.com/midair-go/midair/internal/request"
)

// Rescue lets the stable handler answer a request whose canary has failed before anything was sent. The client does not notice
// the failure. The failure counts as a bad outcome of the canary, and a panic is logged with its stack. The zero value rescues
// requests with a safe method (GET, HEAD, OPTIONS, TRACE) from panics.
//
// The header lines and cookies of the canary are dropped. The request comes to the stable handler as it came to the router, with
// its body. Other effects of the canary stay: a row in a database, a message that was sent. Goroutines of the canary that have
// not ended have a header and a body of their own, and their writes return an error. A panic in such a goroutine ends the
// process, as without Rescue.
//
// Settings that the canary has made by http.ResponseController, such as a deadline for writing, stay for the stable handler. A
// request whose context has ended is not rescued, as nobody waits for the answer.
//
// After the first byte, an informational answer (1xx) or a hijack, no request is rescued: the panic goes on to net/http, which
// ends the connection. A panic with http.ErrAbortHandler goes on, too.
type Rescue struct {
	// Also reports whether a request with another method may run twice, such as a PUT that has the same effect if it runs twice. A
	// panic counts as no. Default: no request.
	Also func(*http.Request) bool
	// Status reports whether the stable handler answers in place of an answer with this status; ServerError is such a function. The
	// header of the canary's answer is not sent then, and writes of the canary return an error. A panic counts as no. Default: no
	// answer.
	Status func(status int) bool
	// Unserved also rescues requests that may not run twice, if the canary has called GiveUp with unserved. A handler of package
	// subprocess does that for requests that its process has not begun. A request with such a method costs a copy of its header.
	// Default: no.
	Unserved bool
	// Body is how many bytes of the body are kept for the stable handler. A request of whose body the canary has read more is not
	// rescued. Negative: no bytes. Default: 64 KiB.
	Body int
	// Attempt is called with the request before the canary. Its result is called when the canary has failed, and undoes the changes
	// of the canary to the session of the visitor. Give the method Attempt of the session.Manager whose middleware is around the
	// router.
	// After a panic of Attempt the request is not rescued. Default: none.
	Attempt func(*http.Request) (undo func())
}

// ServerError reports whether a status is 500 or more. It is a function for Rescue.Status.
func ServerError(status int) bool { return status >= http.StatusInternalServerError }

// GiveUp is for a handler that passes requests on, for example to another process, and cannot reach the other side. GiveUp
// reports whether the stable handler answers in place of the caller. If so, the caller has to return, and the outcome is a bad
// one of the canary. If not, the caller has to answer, with the status 502 for example. unserved says that no handler has begun
// to work on the request: with Rescue.Unserved, the stable handler then answers requests with any method. w is the writer that
// the handler has got, or has a method Unwrap that leads to that writer.
func GiveUp(w http.ResponseWriter, unserved bool) bool {
	for w != nil {
		if own := request.WriterOf(w); own != nil && own.GiveUp(http.StatusBadGateway, unserved) {
			return true
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = inner.Unwrap()
	}
	return false
}
