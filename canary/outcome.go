package canary

import (
	"net/http"
	"time"
)

// An Outcome describes how a handler has answered one request. A rescued request has two outcomes: the canary's, and then the stable
// handler's.
type Outcome struct {
	// Request is the request of the handler. It must not be used after Observe has returned.
	Request *http.Request
	// Side is the side of the handler.
	Side Side
	// Weight is the share of the canary when the router decided the request, in [0, 1]. Weight is 0 if Options.Choose has chosen the
	// side, and if a function of the options has panicked.
	Weight float64
	// Status is the status of the answer: 200 if the handler has returned without one, 101 after a hijack, and 0 if the handler has
	// panicked, or ended its goroutine, before the header was sent. The status of a rescued answer is the one that was dropped. A
	// handler further out, such as http.TimeoutHandler, may have sent another one.
	Status int
	// Bytes is how many bytes of the body the handler has written.
	Bytes int64
	// Start is the time right before Options.Begin and the handler.
	Start time.Time
	// Duration is the time from Start to the end of the handler.
	Duration time.Duration
	// Flags is a set of the facts below.
	Flags OutcomeFlags
	// Begun is what Options.Begin has returned for the request and the side. Begun is nil without Begin, and after a panic of Begin.
	Begun any

	unit unit
}

// A unit is the key or the id by which a request was drawn. At most one of both is set. Ids are random, so the zero id is none.
type unit struct {
	key string
	id  visitorID
}

// OutcomeFlags is a set of facts about an Outcome.
type OutcomeFlags uint8

// The facts.
const (
	// Forced: Options.Choose has chosen the side.
	Forced OutcomeFlags = 1 << iota
	// Panicked: the handler has panicked, and not with http.ErrAbortHandler.
	Panicked
	// Aborted: the handler has panicked with http.ErrAbortHandler, or has ended its goroutine. The server closes the connection.
	Aborted
	// TimedOut: the deadline of the request's context had passed when the handler ended, or the request was canceled within about 10
	// milliseconds of the deadline, as clients of gRPC do when their deadline is over.
	TimedOut
	// Canceled: the request's context was canceled otherwise before the handler ended, in most cases because the client has closed the
	// connection or the stream.
	Canceled
	// Rescued: this answer of the canary was dropped, and the stable handler answers.
	Rescued
	// SecondTry: this is the stable handler's answer to a rescued request.
	SecondTry
)

// Unit returns the key by which the side was drawn: the key that Options.Key has returned, or the id that Options.Cookie has
// given the visitor. Requests with the same Unit are decided the same at the same weight, so their outcomes are not independent.
//
// Unit is empty if the request was drawn by itself, and if its side was not drawn: if Options.Choose has chosen the side, at a
// weight of 0 or 1, while Options.Kill is killed or latched, and after a panic of Options.Key. The second try of a rescued
// request has the Unit of the first try.
//
// An id is 8 bytes, and not the value of the cookie. Unit does not allocate if the caller does not keep the result.
func (o *Outcome) Unit() string {
	if o.unit.key != "" || o.unit.id == (visitorID{}) {
		return o.unit.key
	}
	return string(o.unit.id[:])
}

// Has reports whether the outcome has any of the flags.
func (o Outcome) Has(flags OutcomeFlags) bool { return o.Flags&flags != 0 }

// Failed is the default of Options.Bad. It reports whether the handler has failed: by a status of 500 or more, by a panic, by an
// aborted answer, or by running into the deadline of the request. A request whose client has gone has failed only by a panic, or by
// an answer that was dropped.
func (o Outcome) Failed() bool {
	if o.Has(Panicked | Rescued) {
		return true
	}
	return !o.Has(Canceled) && (o.Status >= http.StatusInternalServerError || o.Has(Aborted|TimedOut))
}

// Drawn reports whether chance has decided the side: the canary had the probability Weight. Drawn is false if Options.Choose has
// chosen the side, if a function of the options has panicked, and for the second try of a rescued request. Compare the two sides by
// drawn outcomes only.
func (o Outcome) Drawn() bool {
	return o.Weight > 0 && o.Weight < 1 && !o.Has(Forced|SecondTry)
}
