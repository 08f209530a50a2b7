package session

import (
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
	_, _, ok := m.open(value, time.Now(), new(scratch))
	return ok
}

// DecodeRecord reports whether b is a complete file of a record, and its data.
func DecodeRecord(b []byte) ([]byte, bool) {
	rec, ok := decodeRecord(b)
	return rec.Data, ok
}

// SweepWhole is the number of records that one sweep looks at.
const SweepWhole = sweepWhole

// MaxKeys is how many keys a ring holds.
const MaxKeys = maxKeys

// TryLock takes the lock of a file, if nobody has it.
var TryLock = filelock.Try

// MemoryLen is the number of records that a store of Memory holds, expired ones too.
func MemoryLen(s Store) int {
	m := s.(*memoryStore)
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

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
