package session

import (
	"context"
	"time"
)

// A Store keeps records under ids. All methods may be called from many goroutines and, where the engine allows it, from many
// processes. An id is any string; the [Manager] gives hashes, so no store ever learns what opens a session.
//
// Five methods are two more than an interface here should have. Each is an atomic step of every engine that we know (insert if
// absent, read, compare and swap, set expiry, remove), and none can be made of the others without a race. The package
// sessiontest checks all promises.
//
// A method must not use the session or the cohort of the context: the session may be locked for the call of the method.
//
// With a context that has ended a method returns an error that wraps the context's, and does nothing.
//
// A record whose expiry has passed does not exist. A revision is never used again for the same id, also not after the record
// was deleted or expired and another record was created: two records of the same id always have different revisions.
type Store interface {
	// Create stores a record under an id that has none. If there is one it returns ErrConflict and changes nothing.
	Create(ctx context.Context, id string, data []byte, expires time.Time) (rev uint64, err error)

	// Load returns the record, or ErrNotFound. It never returns a part of one, or two mixed. The data belongs to the
	// caller.
	Load(ctx context.Context, id string) (Record, error)

	// Swap replaces the record if it is at revision rev, and returns the new revision. It returns ErrConflict if
	// the record is at another one and ErrNotFound if there is none; it never creates. When it returns nil, every Load
	// that begins afterwards, in any process, sees this record or a later one.
	Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (next uint64, err error)

	// Touch changes the expiry and neither data nor revision, so it makes no Swap fail. It returns ErrNotFound if there is
	// no record.
	Touch(ctx context.Context, id string, expires time.Time) error

	// Delete removes the record. That there is none is not an error. A Swap or Touch that comes later returns
	// ErrNotFound, whatever it knew before.
	Delete(ctx context.Context, id string) error
}

// A Record is what a [Store] keeps under an id.
type Record struct {
	// Data is opaque to the store.
	Data []byte
	// Rev changes with each Create and Swap.
	Rev uint64
	// Expires is when the record ceases to exist. A store may keep it to the millisecond.
	Expires time.Time
}

// secretKeeper is an optional method of a Store, for a secret shared by all processes on the store. The first call makes the
// secret, which outlives the processes and seals the cookies unless Options.Keys is set.
type secretKeeper interface {
	Secret(ctx context.Context) ([]byte, error)
}
