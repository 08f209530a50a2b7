package sqlstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	mathrand "math/rand/v2"
	"time"

	"github.com/midair-go/midair/session"
)

// key stands for an id in the table: ids are strings of any length.
func key(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:]
}

// newRev returns a new revision, for a record that never had the same.
func newRev() int64 { return mathrand.Int64()>>1 + 1 }

// Create implements [session.Store].
func (s *Store) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	rev := newRev()
	w := write{key: key(id), rev: rev, data: content(data), expires: expires.UnixMilli()}
	err := s.pool.try(ctx, "create", func(a *attempt) error { return s.create(ctx, a, w) })
	if err != nil {
		return 0, err
	}
	s.maintain(ctx)
	return uint64(rev), nil
}

// A write is a record on its way to the table.
type write struct {
	key     []byte
	rev     int64
	expires int64
	data    []byte
}

// content is never nil, which drivers make NULL.
func content(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

func now() int64 { return time.Now().UnixMilli() }

func (s *Store) create(ctx context.Context, a *attempt, w write) error {
	n, err := s.insert(ctx, w)
	if err != nil || n > 0 {
		return err
	}
	rev, expires, err := s.state(ctx, w.key)
	switch {
	case err == session.ErrNotFound || err == nil && rev != w.rev && expires <= now():
		return again{errVanished}
	case err != nil || rev == w.rev: // an earlier attempt has stored it
		return err
	}
	return a.conflict()
}

// insert stores a record under an id without a record, or with an expired record.
func (s *Store) insert(ctx context.Context, w write) (int64, error) {
	if s.pool.dialect != MySQL {
		return s.pool.exec(ctx, stmtInsert, w.key, w.rev, w.expires, w.data, now())
	}
	n, err := s.pool.exec(ctx, stmtInsert, w.key, w.rev, w.expires, w.data)
	if !s.pool.dialect.duplicate(err) {
		return n, err
	}
	return s.pool.exec(ctx, stmtTakeOver, w.rev, w.expires, w.data, w.key, now())
}

// state returns the revision and the expiry of a record, also of an expired one.
func (s *Store) state(ctx context.Context, key []byte) (rev, expires int64, err error) {
	err = s.pool.row(ctx, stmtState, key, &rev, &expires)
	return rev, expires, err
}

// Load implements [session.Store].
func (s *Store) Load(ctx context.Context, id string) (session.Record, error) {
	var data []byte
	var rev, expires int64
	err := s.pool.try(ctx, "load", func(*attempt) error {
		data = nil
		err := s.pool.row(ctx, stmtLoad, key(id), &data, &rev, &expires)
		if err == nil && expires <= now() {
			return session.ErrNotFound
		}
		return err
	})
	if err == nil || err == session.ErrNotFound {
		s.maintain(ctx)
	}
	if err != nil {
		return session.Record{}, err
	}
	return session.Record{Data: data, Rev: uint64(rev), Expires: time.UnixMilli(expires)}, nil
}

// Swap implements [session.Store].
func (s *Store) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	next := newRev()
	w := write{key: key(id), rev: next, data: content(data), expires: expires.UnixMilli()}
	err := s.pool.try(ctx, "swap", func(a *attempt) error { return s.swap(ctx, a, w, int64(rev)) })
	if err != nil {
		return 0, err
	}
	s.maintain(ctx)
	return uint64(next), nil
}

func (s *Store) swap(ctx context.Context, a *attempt, w write, old int64) error {
	n, err := s.pool.exec(ctx, stmtSwap, w.rev, w.expires, w.data, w.key, old, now())
	if err != nil || n > 0 {
		return err
	}
	rev, expires, err := s.state(ctx, w.key)
	switch {
	case err != nil || rev == w.rev: // an earlier attempt has stored it
		return err
	case expires <= now():
		return session.ErrNotFound
	}
	return a.conflict()
}

// conflict is the answer if the record is at another revision. After a lost connection nobody knows whether the other revision
// followed ours, and a caller that repeats the change might make the change twice.
func (a *attempt) conflict() error {
	if a.lost != nil {
		return unknown{a.lost}
	}
	return session.ErrConflict
}

// Touch implements [session.Store].
func (s *Store) Touch(ctx context.Context, id string, expires time.Time) error {
	sum, until := key(id), expires.UnixMilli()
	err := s.pool.try(ctx, "touch", func(*attempt) error {
		n, err := s.pool.exec(ctx, stmtTouch, until, sum, now())
		if err != nil || n > 0 {
			return err
		}
		// MySQL counts no row that has the values already.
		_, is, err := s.state(ctx, sum)
		switch {
		case err != nil || is == until:
			return err
		case is <= now():
			return session.ErrNotFound
		}
		return again{errVanished}
	})
	if err == nil {
		s.maintain(ctx)
	}
	return err
}

// Delete implements [session.Store].
func (s *Store) Delete(ctx context.Context, id string) error {
	err := s.pool.try(ctx, "delete", func(*attempt) error {
		_, err := s.pool.exec(ctx, stmtDelete, key(id))
		return err
	})
	if err == nil {
		s.maintain(ctx)
	}
	return err
}

// secretKey is the key of the secret. No hash of an id has this value.
var secretKey = bytes.Repeat([]byte{0xff}, 32)

// forever is when the secret expires.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Secret returns a secret that is made once for the table, and shared by all processes. A session.Manager without Options.Keys
// derives from the secret the key for its cookies.
func (s *Store) Secret(ctx context.Context) (secret []byte, err error) {
	w := write{key: secretKey, rev: newRev(), data: []byte(rand.Text() + rand.Text()), expires: forever.UnixMilli()}
	err = s.pool.try(ctx, "secret", func(*attempt) error {
		var rev, expires int64
		secret = nil
		err := s.pool.row(ctx, stmtLoad, secretKey, &secret, &rev, &expires)
		if err != session.ErrNotFound {
			return err
		}
		if _, err := s.insert(ctx, w); err != nil {
			return err
		}
		return again{errVanished} // and now it is there, from this process or another one
	})
	return secret, err
}
