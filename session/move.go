package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// A move gives a session another id, for Renew and Login. The writes have this order, so that a process that dies in between
// loses nothing and leaves nothing that cannot be revoked:
//
//	the new key in the list of the user, if there is a user
//	the copy of the session, under the new key
//	a tombstone, under the old key
//	the list of the user without the old key, after Renew
//
// Login leaves the old key in the list, which may be the list of another user: the tombstone can be read for a moment, and a
// revocation has to find it.
type move struct {
	v     *visit
	next  token
	user  string    // who logs in; "" for Renew
	alone bool      // nobody can know the old id, which needs no tombstone
	began time.Time // when the new key was listed

	listed string  // the user in whose list the new key is, or may be
	login  login   // of listed
	tried  bool    // the copy is stored, or may be
	copied *stored // the copy
}

// run is called with the mutex of the visit held.
func (mv *move) run(ctx context.Context) error {
	v := mv.v
	err := retry(ctx, func(attempt int) error {
		v.loaded = v.loaded && attempt == 0
		return v.renew(ctx, mv)
	})
	if err == nil {
		err = mv.check(ctx)
	}
	if err != nil {
		return errors.Join(err, mv.abandon(ctx))
	}
	v.moved(ctx, mv.next, mv.copied)
	return nil
}

// copy stores env under the new id.
func (mv *move) copy(ctx context.Context, env *envelope, now time.Time) error {
	m, key := mv.v.m, mv.next.key()
	if mv.user != "" {
		env.user, env.remembered = mv.user, mv.next.remembered
		if mv.login.ID == "" {
			mv.login = login{ID: rand.Text(), At: now.UnixMilli()}
		}
		env.login = mv.login
	}
	if env.user != "" {
		env.login.In = short(key)
		if mv.listed == "" {
			mv.listed, mv.began = env.user, now.Round(0)
			if err := (registry{m, env.user}).add(ctx, key, env.login); err != nil {
				return final{err}
			}
		}
	}
	mv.tried = true
	saved, err := mv.v.try.save(ctx, m, key, mv.copied, env, m.expiry(env, now))
	if err == nil {
		mv.copied = saved
		return nil
	}
	if env.user != "" && (errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound)) {
		return ErrGone // the sessions of the user were revoked meanwhile
	}
	return final{fmt.Errorf("session: renew: %w", err)}
}

// check takes the old key from the list and makes sure that the new key is there. An old key that stays is no error, because
// the old key names a tombstone.
func (mv *move) check(ctx context.Context) error {
	var left *roll
	if mv.user == "" {
		left = unlist(ctx, mv.v)
	}
	if mv.listed == "" {
		return nil
	}
	if left == nil {
		// An entry without a session is left alone for an hour, and the process may have slept for longer. So the list is
		// read again if this took long, by the clock on the wall.
		if took := time.Now().Round(0).Sub(mv.began); took >= 0 && took < margin {
			return nil
		}
		var err error
		if left, err = (registry{mv.v.m, mv.listed}).load(ctx); err != nil {
			return err
		}
	}
	if !left.has(mv.next.key()) {
		return ErrGone
	}
	return nil
}

// abandon removes the writes of a failed move. While the copy cannot be removed, it stays listed.
func (mv *move) abandon(ctx context.Context) error {
	ctx, cancel := finishing(ctx)
	defer cancel()
	if mv.tried {
		if err := mv.v.m.store.Delete(ctx, mv.next.key()); err != nil {
			return err
		}
	}
	if mv.listed != "" {
		_, err := registry{mv.v.m, mv.listed}.remove(ctx, mv.next.key())
		return err
	}
	return nil
}

// unlist takes the ended session of a visit from the list of the user. It returns the list after the change, or nil if there is
// no list or the change failed.
func unlist(ctx context.Context, v *visit) *roll {
	if v.known == nil || v.known.env.user == "" || !v.known.env.gone.IsZero() {
		return nil
	}
	ctx, cancel := finishing(ctx)
	defer cancel()
	key := v.token.key()
	r, err := registry{v.m, v.known.env.user}.remove(ctx, key)
	if err != nil {
		v.m.opts.Logger.WarnContext(ctx, "session: list of a user not changed", "err", err)
		return nil
	}
	v.try.unlisted(key, r.all)
	return r
}
