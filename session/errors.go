package session

import "errors"

// Errors for decisions of a caller. All are found by errors.Is.
var (
	// ErrNotFound is the answer of a [Store] that has no live record under an id.
	ErrNotFound = errors.New("session: not found")
	// ErrConflict is the answer of a [Store] whose record is not at the revision that was given, or exists already.
	// [Update] returns it when other writers came first for some seconds on end.
	ErrConflict = errors.New("session: changed meanwhile")
	// ErrGone means that the session was destroyed or renewed by another request while this one was served. Nothing
	// was stored, and the visitor's cookie is left alone: the other answer carries the one that counts.
	ErrGone = errors.New("session: destroyed or renewed meanwhile")
	// ErrUnavailable means that the store has not done what it was asked for: it is dead, too slow, full, read-only or wrongly
	// set up. Unless the store has answered, nobody knows whether a write was made. The error wraps that of the store too, and
	// that of the context if its time was over. A handler answers 503, or goes on without the session.
	ErrUnavailable = errors.New("session: store unavailable")
	// ErrTooLarge means that the session would need more bytes than [Options].MaxSize. It is as it was before.
	ErrTooLarge = errors.New("session: too large")
	// ErrHeaderSent means that the visitor needs a new cookie and the header of the answer was sent already, or that the
	// request has ended. Nothing was stored.
	ErrHeaderSent = errors.New("session: header already sent")
	// ErrNoSession means that the context does not come from a request that passed [Manager.Middleware].
	ErrNoSession = errors.New("session: no middleware around this request")
)
