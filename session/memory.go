package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"
)

// Memory makes a [Store] in the memory of this process, for tests and for programs that are never upgraded. The store keeps all
// promises of a Store. Later calls remove expired records, a few with each call.
//
// The records end with the process, and the new process of an upgrade does not have them: all visitors are logged out. So a
// [Manager] on such a store refuses an upgrade, by [Manager.Ready]. Use [Dir] for sessions that stay.
//
// The store also has the method All(context.Context) iter.Seq2[Record, error] of a [DirStore].
func Memory() Store {
	return &memoryStore{records: map[string]*memoryRecord{}, rev: rand.Uint64()}
}

// memorySweep is how many records a call looks at, at most, to remove expired ones.
const memorySweep = 4

type memoryStore struct {
	mu      sync.Mutex
	rev     uint64 // the last one of all records
	records map[string]*memoryRecord
	order   []*memoryRecord // the same records, in any order
	next    int             // where in order the next call looks for expired ones
}

type memoryRecord struct {
	Record
	id    string
	index int // in order
}

// A singleProcess store is not shared with the other process during an upgrade.
type singleProcess interface{ singleProcess() }

func (m *memoryStore) singleProcess() {}

// locked runs fn with the record of id, which is nil if there is none.
func (m *memoryStore) locked(ctx context.Context, id string, fn func(old *memoryRecord) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("session: memory: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	old := m.records[id]
	if old != nil && !time.Now().Before(old.Expires) {
		m.remove(old)
		old = nil
	}
	return fn(old)
}

// present makes fn return ErrNotFound if there is no record.
func present(fn func(old *memoryRecord) error) func(old *memoryRecord) error {
	return func(old *memoryRecord) error {
		if old == nil {
			return ErrNotFound
		}
		return fn(old)
	}
}

// sweep looks at the next few records: more than a call can add, so that each record is looked at in turn.
func (m *memoryStore) sweep() {
	now := time.Now()
	for range memorySweep {
		if m.next >= len(m.order) {
			m.next = 0
		}
		if len(m.order) == 0 {
			return
		}
		if rec := m.order[m.next]; !now.Before(rec.Expires) {
			m.remove(rec) // and another one is at its place
			continue
		}
		m.next++
	}
}

func (m *memoryStore) remove(rec *memoryRecord) {
	delete(m.records, rec.id)
	last := m.order[len(m.order)-1]
	m.order[rec.index], last.index = last, rec.index
	m.order[len(m.order)-1] = nil
	m.order = m.order[:len(m.order)-1]
}

// Create implements [Store].
func (m *memoryStore) Create(ctx context.Context, id string, data []byte, expires time.Time) (rev uint64, err error) {
	err = m.locked(ctx, id, func(old *memoryRecord) error {
		if old != nil {
			return ErrConflict
		}
		m.rev++
		rev = m.rev
		rec := &memoryRecord{Record: Record{Data: bytes.Clone(data), Rev: rev, Expires: expires}, id: id, index: len(m.order)}
		m.records[id] = rec
		m.order = append(m.order, rec)
		return nil
	})
	return rev, err
}

// Load implements [Store].
func (m *memoryStore) Load(ctx context.Context, id string) (rec Record, err error) {
	err = m.locked(ctx, id, present(func(old *memoryRecord) error {
		rec = old.copy()
		return nil
	}))
	return rec, err
}

func (r *memoryRecord) copy() Record {
	rec := r.Record
	rec.Data = bytes.Clone(rec.Data)
	return rec
}

// Swap implements [Store].
func (m *memoryStore) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (next uint64, err error) {
	err = m.locked(ctx, id, present(func(old *memoryRecord) error {
		if old.Rev != rev {
			return ErrConflict
		}
		m.rev++
		next = m.rev
		old.Record = Record{Data: bytes.Clone(data), Rev: next, Expires: expires}
		return nil
	}))
	return next, err
}

// Touch implements [Store].
func (m *memoryStore) Touch(ctx context.Context, id string, expires time.Time) error {
	return m.locked(ctx, id, present(func(old *memoryRecord) error {
		old.Expires = expires
		return nil
	}))
}

// Delete implements [Store].
func (m *memoryStore) Delete(ctx context.Context, id string) error {
	return m.locked(ctx, id, func(old *memoryRecord) error {
		if old != nil {
			m.remove(old)
		}
		return nil
	})
}

// All is like the method of a [DirStore].
func (m *memoryStore) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, id := range m.ids() {
			rec, err := m.Load(ctx, id)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

func (m *memoryStore) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]string, len(m.order))
	for i, rec := range m.order {
		ids[i] = rec.id
	}
	return ids
}
