package session

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// A Status has the counts of a [Manager] since the start of the process. All numbers only grow.
type Status struct {
	Created   uint64 // sessions made by a first write
	Renewed   uint64 // sessions that got another id
	Destroyed uint64 // sessions that their visitor ended
	Imported  uint64 // sessions that Options.Import brought from another library
	Revoked   uint64 // sessions that were ended from another session or by the program
	Undone    uint64 // attempts whose changes were taken back
	NotUndone uint64 // attempts whose changes stay, although they were to be taken back: the log says why

	Loads     uint64 // reads of the store
	Writes    uint64 // changes of the store: records made, replaced, removed, or with another expiry
	Conflicts uint64 // writes that met another writer, and were made again
	Failures  uint64 // calls of the store that failed with ErrUnavailable
	Refused   uint64 // requests whose cookie no key opens: it was changed, or its key is not in the ring
}

// An event of a session is counted, and written to the log.
type event uint8

const (
	eventCreated event = iota
	eventRenewed
	eventDestroyed
	eventImported
	eventRevoked
	eventUndone
	eventKept
	events
)

// eventTexts are the messages of the log.
var eventTexts = [events]string{
	"session: created", "session: renewed", "session: destroyed", "session: imported", "session: revoked", "session: attempt undone",
	"session: attempt not undone",
}

// logged is how much of a key is in the log, in hexadecimal digits. The key is a hash, and opens nothing.
const logged = 16

// A journal counts events and calls of the store, and logs the events.
type journal struct {
	log    *slog.Logger
	events [events]atomic.Uint64

	loads, writes, conflicts, failures, refused atomic.Uint64
}

// note counts an event of the session with the given key. New sessions are logged at level Debug, because every new visitor
// makes a session, attempts that stay at level Warn, all other events at level Info.
func (j *journal) note(ctx context.Context, e event, key string, more ...slog.Attr) {
	j.events[e].Add(1)
	level := slog.LevelInfo
	switch e {
	case eventCreated:
		level = slog.LevelDebug
	case eventKept:
		level = slog.LevelWarn
	}
	if j.log.Enabled(ctx, level) {
		j.log.LogAttrs(ctx, level, eventTexts[e], append(more, slog.String("session", key[:logged]))...)
	}
}

func (j *journal) status() Status {
	return Status{
		Created:   j.events[eventCreated].Load(),
		Renewed:   j.events[eventRenewed].Load(),
		Destroyed: j.events[eventDestroyed].Load(),
		Imported:  j.events[eventImported].Load(),
		Revoked:   j.events[eventRevoked].Load(),
		Undone:    j.events[eventUndone].Load(),
		NotUndone: j.events[eventKept].Load(),
		Loads:     j.loads.Load(),
		Writes:    j.writes.Load(),
		Conflicts: j.conflicts.Load(),
		Failures:  j.failures.Load(),
		Refused:   j.refused.Load(),
	}
}
