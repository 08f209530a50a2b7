package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/session"
)

// Create implements [session.Store].
func (s *Store) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	rev := newRevision()
	return rev, s.write(ctx, "create", script{createScript, s.key(id)}, encode(rev, expires, data), millis(expires))
}

// Load implements [session.Store].
func (s *Store) Load(ctx context.Context, id string) (session.Record, error) {
	value, err := s.get(ctx, s.key(id))
	if errors.Is(err, redis.Nil) {
		return session.Record{}, session.ErrNotFound
	}
	if err == nil {
		var rec session.Record
		if rec, err = decode([]byte(value)); err == nil {
			return rec, nil
		}
	}
	return session.Record{}, fail(ctx, "load", err)
}

// Swap implements [session.Store].
func (s *Store) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	next := newRevision()
	return next, s.write(ctx, "swap", script{swapScript, s.key(id)}, encode(next, expires, data), millis(expires), tag(rev))
}

// Touch implements [session.Store].
func (s *Store) Touch(ctx context.Context, id string, expires time.Time) error {
	ms := millis(expires)
	a := s.call(ctx, script{touchScript, s.key(id)}, binary.BigEndian.AppendUint64(nil, uint64(ms)), ms)
	if a.err != nil {
		return fail(ctx, "touch", a.err)
	}
	if a.value == missing {
		return session.ErrNotFound
	}
	return nil
}

// Delete implements [session.Store].
func (s *Store) Delete(ctx context.Context, id string) error {
	return fail(ctx, "delete", s.call(ctx, command("del"), s.key(id)).err)
}

// Secret returns the value of the key "#secret" after the prefix. The first call of all processes makes the secret, which does
// not expire. A [session.Manager] derives from the secret the key for sealing cookies.
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	key := s.prefix + secretName
	secret, err := s.get(ctx, key) // first, because a server that takes no writes may have it
	if errors.Is(err, redis.Nil) {
		if err = s.call(ctx, command("setnx"), key, rand.Text()+rand.Text()).err; err == nil {
			secret, err = s.get(ctx, key)
		}
	}
	if err != nil {
		return nil, fail(ctx, "secret", err)
	}
	return []byte(secret), nil
}

// get returns the value of a key, or redis.Nil.
func (s *Store) get(ctx context.Context, key string) (string, error) {
	a := s.call(ctx, command("get"), key)
	value, _ := a.value.(string)
	return value, a.err
}

// write runs a script to write a record.
func (s *Store) write(ctx context.Context, what string, req script, args ...any) error {
	a := s.call(ctx, req, args...)
	switch {
	case a.err != nil:
		return fail(ctx, what, a.err)
	case a.value == done:
		return nil
	case a.lost != nil:
		return fail(ctx, what, fmt.Errorf("another write came first, and nobody knows whether this one was made: %w", a.lost))
	case a.value == missing:
		return session.ErrNotFound
	default:
		return session.ErrConflict
	}
}

// fail names the store in an error. If ctx has ended, the error also wraps the error of ctx.
func fail(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if end := ended(ctx); end != nil && !errors.Is(err, end) {
		return fmt.Errorf("session: redis: %s: %w: %w", what, end, err)
	}
	return fmt.Errorf("session: redis: %s: %w", what, err)
}

// ended returns the error of a context, or nil before the end of the context. A connection has the same deadline, and may reach
// the deadline a moment before the context has an error.
func ended(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// key returns the key for the record of an id.
func (s *Store) key(id string) string {
	if len(id) < maxID && !strings.HasPrefix(id, hashed) {
		return s.prefix + id
	}
	sum := sha256.Sum256([]byte(id))
	return s.prefix + hashed + hex.EncodeToString(sum[:])
}
