// Package scsstore is a recipe: it lets the session manager of github.com/alexedwards/scs/v2 keep its sessions in a
// [session.Store], for a program that stays with that manager and wants the engines of this library. Copy the file.
//
//	sm := scs.New()
//	sm.Store = scsstore.Store{Sessions: session.Dir("sessions")}
//
// The engine is shared by any number of processes. What the interface of scs cannot say stays as it is: its Commit replaces
// whatever is there. So two requests at the same time lose one of two changes, and a slow request brings a session back that was
// destroyed meanwhile. Only the Manager of package session prevents that.
//
// The id in the engine is a hash of the token, but SessionManager.Iterate needs the token itself, so the record begins with it. A
// program that never iterates may leave out the token: then nobody who reads the engine can use a session.
package scsstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/midair-go/midair/session"
)

// A Store is a store of scs in another one. Its methods may be called from any goroutine.
type Store struct{ Sessions session.Store }

var (
	_ scs.CtxStore         = Store{}
	_ scs.IterableCtxStore = Store{}
)

func id(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// FindCtx implements [scs.CtxStore].
func (s Store) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	rec, err := s.Sessions.Load(ctx, id(token))
	if errors.Is(err, session.ErrNotFound) {
		return nil, false, nil
	}
	data, found = bytes.CutPrefix(rec.Data, []byte(token+"\x00"))
	return data, found, err
}

// CommitCtx implements [scs.CtxStore].
func (s Store) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	data = append([]byte(token+"\x00"), data...)
	for {
		rec, err := s.Sessions.Load(ctx, id(token))
		if errors.Is(err, session.ErrNotFound) {
			_, err = s.Sessions.Create(ctx, id(token), data, expiry)
		} else if err == nil {
			_, err = s.Sessions.Swap(ctx, id(token), rec.Rev, data, expiry)
		}
		if !errors.Is(err, session.ErrConflict) && !errors.Is(err, session.ErrNotFound) {
			return err
		}
	}
}

// DeleteCtx implements [scs.CtxStore].
func (s Store) DeleteCtx(ctx context.Context, token string) error {
	return s.Sessions.Delete(ctx, id(token))
}

// AllCtx implements [scs.IterableCtxStore]. The engine must be able to list its records.
func (s Store) AllCtx(ctx context.Context) (map[string][]byte, error) {
	engine, ok := s.Sessions.(interface {
		All(context.Context) iter.Seq2[session.Record, error]
	})
	if !ok {
		return nil, errors.ErrUnsupported
	}
	all := map[string][]byte{}
	for rec, err := range engine.All(ctx) {
		if err != nil {
			return nil, err
		}
		if token, data, ok := bytes.Cut(rec.Data, []byte{0}); ok {
			all[string(token)] = data
		}
	}
	return all, nil
}

// Find implements [scs.Store].
func (s Store) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit implements [scs.Store].
func (s Store) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// Delete implements [scs.Store].
func (s Store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }
