package canary

import (
	"net/http"

	"github.com/midair-go/midair/internal/request"
)

// Rescue lets the stable handler answer a request whose canary has failed before anything was sent. The client does not notice;
// the failure counts as the canary's, and a panic is logged with its stack. The zero value rescues requests with a safe method (GET,
// HEAD, OPTIONS, TRACE) from panics.
//
// The canary's header lines and cookies are dropped. The request comes to the stable handler as it came to the router, with its
// body. What the canary has done elsewhere stays: a row in a database, a message that was sent. Goroutines that the canary leaves
// behind have a header and a body of their own, and their writes return an error. A panic in such a goroutine ends the process, as
// always.
//
// What the canary has set by http.ResponseController, such as a deadline for writing, stays for the stable handler. A request whose
// context is over is not rescued: nobody waits for the answer.
//
// After the first byte, an informational answer (1xx) and a hijack nothing is rescued: the panic goes on, and net/http ends the
// connection. A panic with http.ErrAbortHandler goes on too.
type Rescue struct {
	// Also reports whether a request with another method may run twice, such as a PUT that the handlers answer alike however often
	// it comes. A panic counts as no. Default: none.
	Also func(*http.Request) bool
	// Status reports whether an answer with this status is dropped, and the stable handler answers; ServerError is one. The header
	// of the answer is not sent then, and writes of the canary return an error. A panic counts as no. Default: no answer.
	Status func(status int) bool
	// Unserved also rescues requests that may not run twice, if the canary has not run them: if it has called GiveUp, and said so. A
	// handler of package subprocess does that while its process is away. Such requests cost a copy of their header. Default: no.
	Unserved bool
	// Body is how many bytes of the body are kept for the stable handler. A canary that has read more is not rescued. Negative: none.
	// Default: 64 KiB.
	Body int
	// Attempt is called before the canary with its request, and the result when the canary has failed: it takes back what the
	// canary has done to the visitor's session. The method Attempt of a session.Manager fits, whose middleware is around the router.
	// After a panic of Attempt the request is not rescued. Default: none.
	Attempt func(*http.Request) (undo func())
}

// ServerError reports whether a status is 500 or more. It is a function for Rescue.Status.
func ServerError(status int) bool { return status >= http.StatusInternalServerError }

// GiveUp is for a handler that passes requests on to somebody else, who is away, such as another process. GiveUp reports whether the
// stable handler answers in place of the caller: if so, the caller has to return, and the outcome is a bad one of the canary. If
// not, the caller has to answer, with the status 502 for example. unserved says that nobody has begun to work on the request: with
// Rescue.Unserved, the stable handler then answers requests with any method. The writer is that of the handler, or has a
// method Unwrap that leads to it.
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
