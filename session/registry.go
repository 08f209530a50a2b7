package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// A registry is where the sessions of a user are listed.
type registry struct {
	m    *Manager
	user string
}

func (g registry) id() string {
	sum := sha256.Sum256([]byte(g.user))
	return "user " + hex.EncodeToString(sum[:])
}

// life is the longest life of a session without a renewal.
func (g registry) life() time.Duration { return max(g.m.opts.Lifetime, g.m.opts.Remember) }

func (g registry) load(ctx context.Context) (*roll, error) {
	rec, err := g.m.store.Load(ctx, g.id())
	if errors.Is(err, ErrNotFound) {
		return &roll{sessions: map[string]entry{}, ended: map[string]int64{}}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeRoll(rec)
}

// save writes a roll over the loaded record. The record outlives every listed session, also if the clock of the host is late.
func (g registry) save(ctx context.Context, r *roll) error {
	now := time.Now()
	data, err := r.encode(now)
	if err != nil {
		return err
	}
	expires := now.Add(g.life() + 2*margin)
	if r.expires.After(expires) {
		expires = r.expires
	}
	if r.stored {
		r.rev, err = g.m.store.Swap(ctx, g.id(), r.rev, data, expires)
	} else {
		r.rev, err = g.m.store.Create(ctx, g.id(), data, expires)
	}
	return err
}

// change lets fn change the roll, again if another writer came first, and returns the roll after the change. If fn returns
// false, nothing is written.
func (g registry) change(ctx context.Context, fn func(*roll) (bool, error)) (r *roll, err error) {
	err = retry(ctx, func(int) error {
		if r, err = g.load(ctx); err != nil {
			return err
		}
		changed, err := fn(r)
		if err != nil || !changed {
			return err
		}
		return g.save(ctx, r)
	})
	return r, err
}

// errFull means that the user has too many sessions.
var errFull = errors.New("session: the user has too many sessions")

// add lists a session, or notes a use of the session, and returns ErrGone if the login was revoked. If the user has too many
// sessions, add revokes the first login.
func (g registry) add(ctx context.Context, key string, l login) error {
	for {
		r, err := g.change(ctx, func(r *roll) (bool, error) {
			if r.isEnded(l) {
				return false, ErrGone
			}
			if len(r.sessions) >= maxListed && !r.has(key) {
				return false, errFull
			}
			r.sessions[key] = entry{login: l, added: time.Now().UnixMilli(), extra: r.sessions[key].extra}
			return true, nil
		})
		if !errors.Is(err, errFull) {
			return err
		}
		first := r.oldest()
		if _, err := g.revoke(ctx, func(e entry) bool { return e.login.ID == first }, false); err != nil {
			return err
		}
	}
}

// remove takes sessions from the roll, and returns the roll after the change.
func (g registry) remove(ctx context.Context, keys ...string) (*roll, error) {
	return g.change(ctx, func(r *roll) (changed bool, _ error) {
		for _, key := range keys {
			changed = changed || r.has(key)
			delete(r.sessions, key)
		}
		return changed, nil
	})
}

// revoke ends the sessions chosen by pick, and returns the number of logins ended. First the logins are noted as revoked, so
// that no session of a revoked login is renewed or listed any more; then the sessions are ended; then the sessions are taken
// from the roll. A process that dies in between leaves the sessions listed, and another call can revoke them.
func (g registry) revoke(ctx context.Context, pick func(entry) bool, all bool) (n int, err error) {
	picked := map[string]entry{}
	_, err = g.change(ctx, func(r *roll) (bool, error) {
		clear(picked)
		until := time.Now().Add(g.life() + young).UnixMilli()
		for key, e := range r.sessions {
			if pick(e) {
				picked[key] = e
				r.ended[e.login.ID] = until
			}
		}
		if all {
			r.all++
		}
		return len(picked) > 0 || all && r.stored, nil
	})
	if err != nil {
		return 0, err
	}
	logins := map[string]bool{}
	var done []string
	for key, e := range picked {
		live, end := g.end(ctx, key, !e.old(time.Now()))
		if end != nil {
			err = errors.Join(err, end)
			if errors.Is(end, ErrUnavailable) || ctx.Err() != nil {
				break // the others would wait for the store too
			}
			continue
		}
		done = append(done, key)
		if live {
			logins[e.login.ID] = true
			g.m.journal.note(ctx, eventRevoked, key)
		}
	}
	if len(done) > 0 {
		_, removed := g.remove(ctx, done...)
		err = errors.Join(err, removed)
	}
	return len(logins), err
}

// end puts a tombstone in the place of a session, and reports whether the session was live. If coming is true, a missing
// session gets a tombstone too, so that a login under way cannot create the session.
func (g registry) end(ctx context.Context, key string, coming bool) (live bool, err error) {
	err = retry(ctx, func(int) error {
		live = false
		rec, err := g.m.store.Load(ctx, key)
		if err != nil && (!errors.Is(err, ErrNotFound) || !coming) {
			return ignoreNotFound(err)
		}
		old, now := (*stored)(nil), time.Now()
		if err == nil {
			old = &stored{rev: rec.Rev}
			env, err := decodeEnvelope(rec.Data) // what a newer version wrote is ended all the same
			if live = err != nil || env.gone.IsZero(); !live && !env.renewed {
				return nil
			}
		}
		_, err = g.m.save(ctx, key, old, tombstone(now), now.Add(young))
		return err
	})
	return live, err
}

// sweep takes entries without a session from a roll, unless another writer has changed the roll.
func (g registry) sweep(ctx context.Context, r *roll, dead []string) error {
	if len(dead) == 0 {
		return nil
	}
	for _, key := range dead {
		delete(r.sessions, key)
	}
	if err := g.save(ctx, r); !errors.Is(err, ErrConflict) {
		return ignoreNotFound(err)
	}
	return nil // somebody else has changed it: another time
}

// adopt lists a session under the present key, after a renewal by a version without lists or after a loss of the list. If the
// login was revoked, adopt ends the session and returns the record after the end.
func (g registry) adopt(ctx context.Context, key string, known *stored) (*stored, error) {
	env := known.env.clone()
	env.login.In = short(key)
	err := g.add(ctx, key, env.login)
	if errors.Is(err, ErrGone) {
		if _, err := g.end(ctx, key, false); err != nil {
			return nil, err
		}
		return g.m.load(ctx, key)
	}
	if errors.Is(err, ErrUnavailable) { // a store that takes no writes is read
		if r, failed := g.load(ctx); failed == nil && !r.isEnded(env.login) {
			return known, nil
		}
	}
	if err != nil || known.env.login.In == env.login.In {
		return known, err
	}
	next, err := g.m.save(ctx, key, known, env, known.expires)
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		return known, nil // the next request tries again
	}
	if err != nil {
		return nil, err
	}
	return next, nil
}

// vet returns what a request may use of a loaded record. Only two kinds of sessions with a user cost an access to the store: a
// session renewed by a version without lists is listed here, and a session renewed a moment ago can be read only if the login
// was not revoked since then.
func vet(ctx context.Context, m *Manager, key string, known *stored) (*stored, error) {
	if known == nil || known.env.user == "" {
		return known, nil
	}
	g := registry{m, known.env.user}
	if known.env.gone.IsZero() {
		if known.env.login.In == short(key) {
			return known, nil
		}
		return g.adopt(ctx, key, known)
	}
	if time.Now().After(known.env.gone.Add(grace)) {
		return known, nil
	}
	r, err := g.load(ctx)
	if err != nil || !r.isEnded(known.env.login) {
		return known, err
	}
	left := *known
	left.env = tombstone(known.env.gone)
	left.env.renewed = true
	return &left, nil
}

// watch makes sure, once in a while, that the session of a user is listed and that the list outlives the session.
func watch(ctx context.Context, m *Manager, key string, known *stored) *stored {
	if known.env.user == "" {
		return known
	}
	g := registry{m, known.env.user}
	r, err := g.load(ctx)
	if err == nil && r.has(key) && !r.expires.Before(known.env.created.Add(g.life())) {
		return known
	}
	if err == nil {
		var next *stored
		if next, err = g.adopt(ctx, key, known); err == nil {
			return next
		}
	}
	m.opts.Logger.WarnContext(ctx, "session: not listed for its user", "err", err)
	return known
}

// tidy removes some entries without a session, now and then.
func (g registry) tidy(ctx context.Context) {
	const every, some = 8, 16
	r, err := g.load(ctx)
	if err != nil || len(r.sessions) < some || len(r.sessions)%every != 0 {
		return
	}
	var dead []string
	looked := 0
	for key, e := range r.sessions { // in random order
		if !e.old(time.Now()) {
			continue
		}
		if looked++; looked > some {
			break
		}
		known, err := g.m.load(ctx, key)
		if errors.Is(err, ErrUnavailable) {
			return
		}
		if err == nil && (known == nil || !known.env.gone.IsZero()) {
			dead = append(dead, key)
		}
	}
	_ = g.sweep(ctx, r, dead) // the next login tries again
}
