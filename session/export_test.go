package session

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/midair-go/midair/internal/filelock"
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
