package session

import "errors"

// Decisions that a caller may take. All are found by errors.Is.
var (
	// ErrNotFound is the answer of a [Store] that has no live record under an id.
	ErrNotFound = errors.New("session: not found")
	// ErrConflict is the answer of a [Store] whose record is not at the revision that was given, or exists already.
	// [Update] returns it when other writers came first for some seconds on end.
	ErrConflict = errors.New("session: changed meanwhile")
	// ErrGone means that the session was destroyed or renewed by another request while this one was served. Nothing
	// was stored, and the visitor's cookie is left alone: the other answer carries the one that counts.
	ErrGone = errors.New("session: destroyed or renewed meanwhile")
	// ErrTooLarge means that the session would need more bytes than [Options].MaxSize. It is as it was before.
	ErrTooLarge = errors.New("session: too large")
	// ErrHeaderSent means that the visitor needs a new cookie and the header of the answer was sent already, or that the
	// request has ended. Nothing was stored.
	ErrHeaderSent = errors.New("session: header already sent")
	// ErrNoSession means that the context does not come from a request that passed [Manager.Middleware].
	ErrNoSession = errors.New("session: no middleware around this request")
)
