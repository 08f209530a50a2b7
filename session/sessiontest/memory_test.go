package sessiontest_test

import (
	"bytes"
	"context"
	"errors"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/session"
)

// A memory is the smallest store that keeps all promises, unless it has a flaw.
type memory struct {
	flaw string

	mu      sync.Mutex
	rev     uint64
	records map[string]session.Record
}

func newMemory(flaw string) *memory {
	return &memory{flaw: flaw, rev: 100, records: map[string]session.Record{}}
}

var _ session.Store = (*memory)(nil)

// lock begins an operation.
func (m *memory) lock(ctx context.Context) (unlock func(), err error) {
	err = ctx.Err()
	if err != nil && m.flaw != "context" && (m.flaw != "deadline" || errors.Is(err, context.Canceled)) {
		return func() {}, err
	}
	m.mu.Lock()
	return m.mu.Unlock, nil
}

// key is the id under which a record is kept.
func (m *memory) key(id string) string {
	switch {
	case m.flaw == "path":
		return path.Base(id)
	case m.flaw == "case":
		return strings.ToLower(id)
	case m.flaw == "padding": // as some column types of databases do
		return strings.TrimRight(id, " ")
	case m.flaw == "utf8":
		return strings.ToValidUTF8(id, "?")
	}
	return id
}

// get finds a live record.
func (m *memory) get(id string) (session.Record, bool) {
	id = m.key(id)
	rec, ok := m.records[id]
	now := time.Now()
	if m.flaw == "late" {
		now = now.Add(-50 * time.Millisecond)
	}
	if m.flaw != "expiry" && !now.Before(rec.Expires) {
		return session.Record{}, false
	}
	return rec, ok
}

func (m *memory) put(id string, data []byte, expires time.Time) uint64 {
	id = m.key(id)
	if m.flaw != "alias" {
		data = bytes.Clone(data)
	}
	if m.flaw == "text" {
		data = bytes.TrimRight(data, "\x00")
	}
	m.rev++
	if m.flaw == "seconds" {
		expires = expires.Truncate(time.Second)
	}
	if _, old := m.get(id); m.flaw == "reuse" && !old {
		m.rev = 1
	}
	if m.flaw == "revision" {
		m.rev = uint64(len(m.records[id].Data)) + m.records[id].Rev + 1
	}
	m.records[id] = session.Record{Data: data, Rev: m.rev, Expires: expires}
	return m.rev
}

func (m *memory) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err != nil {
		return 0, err
	}
	if _, ok := m.get(id); ok && m.flaw != "overwrite" {
		return 0, session.ErrConflict
	}
	return m.put(id, data, expires), nil
}

func (m *memory) Load(ctx context.Context, id string) (session.Record, error) {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err != nil {
		return session.Record{}, err
	}
	rec, ok := m.get(id)
	if !ok {
		return rec, session.ErrNotFound
	}
	if m.flaw != "alias" {
		rec.Data = bytes.Clone(rec.Data)
	}
	return rec, nil
}

func (m *memory) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err != nil {
		return 0, err
	}
	old, ok := m.get(id)
	switch {
	case !ok && m.flaw != "upsert":
		return 0, session.ErrNotFound
	case ok && old.Rev != rev && m.flaw != "blind":
		return 0, session.ErrConflict
	}
	return m.put(id, data, expires), nil
}

func (m *memory) Touch(ctx context.Context, id string, expires time.Time) error {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err != nil {
		return err
	}
	rec, ok := m.get(id)
	if !ok {
		return session.ErrNotFound
	}
	if m.flaw == "touch" {
		m.put(id, rec.Data, expires)
		return nil
	}
	rec.Expires = expires
	m.records[m.key(id)] = rec
	return nil
}

func (m *memory) Delete(ctx context.Context, id string) error {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err != nil {
		return err
	}
	if _, ok := m.get(id); !ok && m.flaw == "delete" {
		return session.ErrNotFound
	}
	delete(m.records, m.key(id))
	return nil
}
