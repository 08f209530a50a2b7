package session

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"github.com/midair-go/midair/internal/filelock"
	"github.com/midair-go/midair/internal/logqueue"
)

// Recode decodes an envelope and encodes it again.
func Recode(data []byte) ([]byte, error) {
	e, err := decodeEnvelope(data)
	if err != nil {
		return nil, err
	}
	return e.encode()
}

// Carry is carry with the type of value.
func Carry(old, fresh string, value any) string {
	return string(carry(json.RawMessage(old), json.RawMessage(fresh), reflect.TypeOf(value)))
}

// Open reports whether m accepts a cookie.
func Open(m *Manager, value string) bool {
	return m.open(m.opts.Cookie, value, time.Now(), new(scratch)).ok
}

// DecodeRecord reports whether b is a file with a record, and the data.
func DecodeRecord(b []byte) ([]byte, bool) {
	s, ok := decodeFile(b)
	return s.Data, ok
}

// SweepWhole is the number of records that one sweep looks at.
const SweepWhole = sweepWhole

// MaxKeys is how many keys a ring holds.
const MaxKeys = maxKeys

// TryLock takes the lock of a file, if nobody has it.
var TryLock = filelock.Try

// SetSettle sets how long a new key of a ring opens before it seals.
func SetSettle(k *KeyRing, d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.init()
	k.keyset.Settle = d
}

// KeySettle is how long a new key opens before it seals, if nothing else is set.
const KeySettle = keySettle

// SealsWith returns the key with which a ring seals, and OpensWith all keys that it opens, by their ids.
func SealsWith(k *KeyRing) string { return k.keys()[0].name() }

// OpensWith returns the ids of the keys that a ring accepts.
func OpensWith(k *KeyRing) (ids []string) {
	for _, one := range k.keys() {
		ids = append(ids, one.name())
	}
	return ids
}

// Remember marks the session of a request as remembered, which goes on through a renewal.
func Remember(ctx context.Context) error {
	v, err := current(ctx)
	if err != nil {
		return err
	}
	t, known, err := v.writable(ctx, false)
	if err != nil {
		return err
	}
	env := known.env.clone()
	env.remembered = true
	saved, err := v.m.save(ctx, t.key(), known, env, v.m.expiry(env, time.Now()))
	v.wrote(ctx, t, saved)
	return err
}

// KeyPatience is how long requests wait for the first key of a store.
const KeyPatience = keyPatience

// Seal makes a cookie with the times that a test wants.
func Seal(m *Manager, name string, id [16]byte, born, issued uint32, cohort string) string {
	t := token{id: id, born: born, remembered: issued&1 == 1, cohort: cohort}
	return m.seal(name, t, time.Unix(int64(issued), 0))
}

// ID is the id in a cookie, which nobody may learn.
func ID(m *Manager, name, value string) (id [16]byte, ok bool) {
	f := m.open(name, value, time.Now(), new(scratch))
	return f.token.id, f.ok
}

// UserID is the id of the record that lists the sessions of a user.
func UserID(user string) string { return registry{user: user}.id() }

// UseKeys is what each request does with the keys.
func UseKeys(k *KeyRing) { k.keys() }

// LookNow makes the next look at the file of a ring due.
func LookNow(k *KeyRing) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file.looked = time.Now().Add(-keyLook)
	k.tend()
}

// FlushLog waits until the lines of a ring are in the log.
func FlushLog(k *KeyRing) { logqueue.Flush(k.file.logger) }

// MemoryLen is the number of records that a store of Memory holds, expired ones too.
func MemoryLen(s Store) int {
	m := s.(*memoryStore)
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}
