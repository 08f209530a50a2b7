package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/request"
)

// tries are the attempts to answer a request. Undo takes back the writes made through save.
type tries struct {
	// gate is held by writers while they store, and by undo alone. It guards what follows. The mutex of the visit is taken
	// before it.
	gate   sync.RWMutex
	failed []*request.Slot // of attempts that were undone
	now    *attempt        // nil if nothing is to be undone
}

// over reports whether ctx belongs to an undone attempt. The caller holds the mutex of the visit, or the gate.
func (t *tries) over(ctx context.Context) bool {
	if len(t.failed) == 0 {
		return false
	}
	for s := request.From(ctx); s != nil; s = s.Outer() {
		for _, failed := range t.failed {
			if s == failed {
				return true
			}
		}
	}
	return false
}

// save is Manager.save with a note for undo. In an undone attempt save returns ErrGone.
func (t *tries) save(ctx context.Context, m *Manager, key string, old *stored, env *envelope, expires time.Time) (*stored, error) {
	t.gate.RLock()
	defer t.gate.RUnlock()
	if t.over(ctx) {
		return nil, ErrGone
	}
	next, err := m.save(ctx, key, old, env, expires)
	t.now.note(key, old, env, next, err)
	return next, err
}

// unlisted notes how often all sessions of a user had been revoked when the session under key was taken from the list.
func (t *tries) unlisted(key string, all int64) {
	t.gate.RLock()
	defer t.gate.RUnlock()
	if t.now == nil {
		return
	}
	t.now.mu.Lock()
	defer t.now.mu.Unlock()
	if c := t.now.changes[key]; c != nil {
		c.all = all
	}
}

// An attempt is a try to answer a request, and may have to be undone.
type attempt struct {
	v    *visit
	slot *request.Slot
	// what the visit was before
	token  token
	cookie cookieState

	mu      sync.Mutex         // the last that is taken
	changes map[string]*change // by key
}

// A change is the effect of an attempt on a record.
type change struct {
	before  *stored   // nil: there was none
	after   *stored   // what was stored last, nil if nothing was
	maybe   *envelope // what may have been stored after that: the store returned an error
	foreign bool      // others wrote in between
	all     int64     // see tries.unlisted; -1 if the session is listed still
}

func (a *attempt) note(key string, old *stored, env *envelope, next *stored, err error) {
	if a == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.changes[key]
	if c == nil {
		c = &change{before: old, all: -1}
		a.changes[key] = c
	} else if c.after == nil || old == nil || old.rev != c.after.rev {
		c.foreign = true
	}
	if err != nil {
		c.maybe = env
		return
	}
	c.after, c.maybe = next, nil
}

// begin starts an attempt, to which all changes from now on belong.
func begin(v *visit, slot *request.Slot) *attempt {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.try.gate.Lock()
	defer v.try.gate.Unlock()
	a := &attempt{v: v, slot: slot, token: v.token, cookie: v.cookie, changes: map[string]*change{}}
	v.try.now = a
	return a
}

// rebase is called with mu held, after a cookie was opened late or a session was imported. Both came with the request and not
// with the attempt, so both stay after undo.
func (t *tries) rebase(v *visit) {
	if t.now != nil {
		t.now.token, t.now.cookie = v.token, v.cookie
	}
}

// undo takes the attempt back. Writes of the attempt under way end first.
func (a *attempt) undo(ctx context.Context) {
	v := a.v
	v.mu.Lock()
	defer v.mu.Unlock()
	v.try.gate.Lock()
	defer v.try.gate.Unlock()
	if v.try.now != a {
		return
	}
	v.try.now = nil
	v.try.failed = append(v.try.failed, a.slot)
	switch err := a.restore(ctx); {
	case err != nil:
		v.loaded = v.cookie <= fresh
		v.m.journal.note(ctx, eventKept, a.name(), slog.Any("err", err))
	case len(a.changes) > 0:
		v.m.journal.note(ctx, eventUndone, a.name())
	}
}

// name is the key of the visitor's session, or the key of a session made by the attempt.
func (a *attempt) name() string {
	if a.cookie == none {
		for key := range a.changes {
			return key
		}
	}
	return a.token.key()
}

// Reasons why an attempt stays.
var (
	errOthers = errors.New("session: others have changed the session since then")
	errSent   = errors.New("session: the visitor has the new cookie")
)

// restore takes the records back and then resets the visit. The record named by the visitor's cookie comes first: if this
// record cannot be restored, the visitor needs the other records.
func (a *attempt) restore(ctx context.Context) error {
	v := a.v
	same := v.token.id == a.token.id
	if v.sent && !same {
		return errSent
	}
	ctx, cancel := finishing(ctx)
	defer cancel()
	home := ""
	if a.cookie != none {
		home = a.token.key()
	}
	if c := a.changes[home]; c != nil {
		if err := a.put(ctx, home, c); err != nil {
			return err
		}
	}
	var err error
	for key, c := range a.changes {
		if key != home {
			err = errors.Join(err, a.drop(ctx, key, c))
		}
	}
	switch {
	case !same || len(a.changes) > 0 && !v.sent:
		v.become(a.token, nil, a.cookie)
		v.token.remembered = a.token.remembered
		v.loaded = a.cookie <= fresh
	case v.sent:
		v.loaded = false
	default:
		v.cookie = a.cookie
	}
	return err
}

// put restores a record, or returns errOthers if others have changed the record meanwhile.
func (a *attempt) put(ctx context.Context, key string, c *change) error {
	m := a.v.m
	if c.before == nil && a.cookie <= due && !a.v.sent { // nobody else knows the id
		return a.drop(ctx, key, c)
	}
	found, err := a.find(ctx, key, c)
	if err != nil || found == nil {
		return err
	}
	now := time.Now()
	if c.before == nil { // a record that has expired does not exist: this is a Delete at a revision
		_, err = m.save(ctx, key, found, newEnvelope(now), now.Add(-time.Hour))
		return others(err)
	}
	env := c.before.env
	listed := env.user != "" && !found.env.gone.IsZero()
	g := registry{m, env.user}
	if listed {
		if err := g.relist(ctx, key, env.login, c.all); err != nil {
			return err
		}
	}
	if _, err = m.save(ctx, key, found, env, m.expiry(env, now)); err != nil || !listed {
		return others(err)
	}
	if took := time.Now().Round(0).Sub(now.Round(0)); took >= 0 && took < margin {
		return nil
	}
	_, err = g.adopt(ctx, key, &stored{env: env}) // the process has slept, see move.unlist
	return err
}

// find returns the record as the attempt has left it, nil if the attempt has created no record, and errOthers if the last write
// was made by others.
func (a *attempt) find(ctx context.Context, key string, c *change) (*stored, error) {
	rec, err := a.v.m.store.Load(ctx, key)
	if errors.Is(err, ErrNotFound) && c.before == nil && c.after == nil {
		return nil, nil
	}
	if err != nil {
		return nil, others(err)
	}
	if c.after == nil && c.before != nil && rec.Rev == c.before.rev { // a swap of this makes one that is on its way fail
		return c.before, nil
	}
	found := &stored{rev: rec.Rev, expires: rec.Expires}
	switch {
	case c.foreign:
		return nil, errOthers
	case c.after != nil && c.after.rev == rec.Rev:
		found.env = c.after.env
		return found, nil
	case c.maybe != nil:
		if data, err := c.maybe.encode(); err == nil && bytes.Equal(data, rec.Data) {
			found.env = c.maybe
			return found, nil
		}
	}
	return nil, errOthers
}

// others replaces the errors of a late swap by errOthers.
func others(err error) error {
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		return errOthers
	}
	return err
}

// drop removes a session, also from the list of the user. The id was made in this request: no client has the id.
func (a *attempt) drop(ctx context.Context, key string, c *change) error {
	m := a.v.m
	if err := m.store.Delete(ctx, key); err != nil {
		return err
	}
	for _, env := range []*envelope{c.maybe, c.image()} {
		if env != nil && env.user != "" {
			_, err := registry{m, env.user}.remove(ctx, key)
			return err
		}
	}
	return nil
}

func (c *change) image() *envelope {
	if c.after == nil {
		return nil
	}
	return c.after.env
}

// relist puts a session back into the list of the user. It returns ErrGone if the session was revoked meanwhile.
func (g registry) relist(ctx context.Context, key string, l login, all int64) error {
	_, err := g.change(ctx, func(r *roll) (bool, error) {
		e, listed := r.sessions[key]
		if r.isEnded(l) || !listed && all != r.all {
			return false, ErrGone
		}
		r.sessions[key] = entry{login: l, added: time.Now().UnixMilli(), extra: e.extra}
		return true, nil
	})
	return err
}
