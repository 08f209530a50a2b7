package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"
)

// Get returns the value of key in the visitor's session, and whether there is a value. The first call in a request loads the
// session; later calls see the same values, and the changes of the request itself.
func Get[T any](ctx context.Context, key string) (value T, ok bool, err error) {
	v, err := current(ctx)
	if err != nil {
		return value, false, err
	}
	values, err := v.read(ctx)
	if err != nil {
		return value, false, err
	}
	ok, err = (&Values{m: values}).Get(key, &value)
	return value, ok, err
}

// Put sets key to value, in the way of [Values.Put]. Other keys stay as the store has them.
func Put(ctx context.Context, key string, value any) error {
	return Update(ctx, func(v *Values) error { return v.Put(key, value) })
}

// Delete removes key. Other keys stay as the store has them.
func Delete(ctx context.Context, key string) error {
	return Update(ctx, func(v *Values) error {
		v.Delete(key)
		return nil
	})
}

// Pop returns the value of key and removes the key, in one update: of several requests that pop the key at the same time, in
// whatever process, exactly one gets the value. So a message is shown once. A value that does not fit T stays, and the error
// says so. If there is no such key, Pop writes nothing and needs no cookie. If the answer of the store is lost, Pop returns an
// error, and the value may be gone.
func Pop[T any](ctx context.Context, key string) (value T, ok bool, err error) {
	if value, ok, err = Get[T](ctx, key); err != nil || !ok {
		return value, ok, err
	}
	err = Update(ctx, func(v *Values) (err error) {
		var fresh T
		ok, err = v.Get(key, &fresh)
		value = fresh
		v.Delete(key)
		return err
	})
	if err != nil {
		var zero T
		return zero, false, err
	}
	return value, ok, nil
}

// Update changes the visitor's session by fn. When Update returns nil, the change is in the store. No update is lost, in
// whatever process: if the session was changed meanwhile, fn runs again on the new values, so fn should do nothing but change
// the values. A missing session is created, unless fn changes nothing. If fn returns an error, nothing is stored and Update
// returns the error of fn.
func Update(ctx context.Context, fn func(*Values) error) error {
	v, err := current(ctx)
	if err != nil {
		return err
	}
	return retry(ctx, func(attempt int) error { return v.update(ctx, fn, attempt > 0) })
}

func (v *visit) update(ctx context.Context, fn func(*Values) error, again bool) error {
	t, known, err := v.writable(ctx, again)
	if err != nil {
		return err
	}
	var saved *stored
	defer func() { v.wrote(ctx, t, saved) }()
	now := time.Now()
	env := newEnvelope(now)
	if known != nil {
		env = known.env.clone()
	}
	values := &Values{m: env.values}
	if err := fn(values); err != nil {
		return final{err}
	}
	if !values.changed {
		return nil
	}
	// Only growth is refused: a session that another version let grow can be emptied here, and renewed.
	if size := env.size(); size > v.m.opts.MaxSize && (known == nil || size > known.env.size()) {
		return fmt.Errorf("%w: values of %d bytes, MaxSize is %d", ErrTooLarge, size, v.m.opts.MaxSize)
	}
	saved, err = v.try.save(ctx, v.m, t.key(), known, env, v.m.expiry(env, now))
	if err == nil && known == nil {
		v.m.journal.note(ctx, eventCreated, t.key())
	}
	return err
}

// Renew gives the visitor's session another id and cookie; the values and the cohort stay. Call Renew whenever the visitor
// gains rights, a login above all. A client with the old cookie reads the session as before the renewal for half a minute, so
// that requests on their way are answered, and can neither write the session nor ever see anything written after the renewal.
//
// Call Renew before the header of the answer goes out and before the request ends; otherwise Renew returns [ErrHeaderSent] and
// does nothing. The request also ends when the client goes away, and with [http.TimeoutHandler]: put an http.TimeoutHandler
// inside of the Middleware, because outside of the Middleware an http.TimeoutHandler drops the cookie of a handler that was too
// slow.
func Renew(ctx context.Context) error {
	v, err := current(ctx)
	if err != nil {
		return err
	}
	if err := v.begin(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.try.over(ctx):
		return ErrGone
	case v.late():
		return ErrHeaderSent
	}
	if err := v.adopt(ctx); err != nil {
		return err
	}
	if v.cookie == none { // there is no id that anybody could know
		v.mint()
		v.cookie = due
		return nil
	}
	return (&move{v: v, next: v.token.renewed(time.Now())}).run(ctx)
}

// moved ends a renewal after the writes. The session keeps its time of birth. An id without a record is new, and may be created
// for an hour.
func (v *visit) moved(ctx context.Context, next token, copied *stored) {
	switch {
	case copied == nil:
	case v.known == nil: // a login of a visitor without a session
		next.born = v.token.born
		v.m.journal.note(ctx, eventCreated, next.key())
	default:
		next.born = v.token.born
		v.m.journal.note(ctx, eventRenewed, next.key(), slog.String("from", v.token.key()[:logged]))
	}
	v.become(next, copied, due)
}

// renew copies the session to the token mv.next, over the copy of an earlier attempt, and then ends the session under the old
// token, unless the session was changed after the copy. In this order a process that dies in between loses nothing.
func (v *visit) renew(ctx context.Context, mv *move) error {
	if err := v.settle(ctx); err != nil {
		return err
	}
	if v.known == nil && mv.copied != nil {
		return ErrGone
	}
	now := time.Now()
	end := tombstone(now)
	end.renewed = true
	if v.known != nil || mv.user != "" {
		before := newEnvelope(now)
		if v.known != nil {
			before = v.known.env
		}
		env := before.clone()
		env.created = ceil(now)
		if err := mv.copy(ctx, env, now); err != nil {
			return err
		}
		end.values, end.extra, end.user, end.login = maps.Clone(before.values), before.extra, before.user, before.login
	}
	if mv.alone {
		return nil
	}
	_, err := v.try.save(ctx, v.m, v.token.key(), v.known, end, v.buried(now))
	if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) && v.isStored(ctx, end) {
		err = nil
	}
	return err
}

// isStored reports whether a tombstone is in the store although storing returned an error: the answer of a database may get
// lost, and the visitor would then be logged out. The wait for the store ends after checkLimit.
func (v *visit) isStored(ctx context.Context, end *envelope) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkLimit)
	defer cancel()
	found, err := v.m.load(ctx, v.token.key())
	return err == nil && found != nil && found.env.renewed == end.renewed && found.env.gone.Equal(end.gone)
}

// buried is the expiry of a tombstone: without the tombstone, a request on its way could take the id for a new one and create a
// session.
func (v *visit) buried(now time.Time) time.Time {
	until := now.Add(rest)
	if t := time.Unix(int64(v.token.born), 0).Add(adoptable); t.After(until) {
		until = t
	}
	return until.Add(margin)
}

// Destroy ends the visitor's session, in whatever process: the values are removed at once, and no request on its way brings the
// values back; a write of such a request returns [ErrGone]. The cohort stays. Later writes of the same request go to a new
// session. If another request has renewed the session meanwhile, Destroy returns ErrGone: the renewed session is out of reach
// of this request, and lives.
func Destroy(ctx context.Context) error {
	v, err := current(ctx)
	if err != nil {
		return err
	}
	if err := v.begin(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.try.over(ctx) {
		return ErrGone
	}
	if len(v.inherited.values) > 0 && v.late() {
		return ErrHeaderSent // without a new cookie a later request would bring the session back
	}
	if err := v.adopt(ctx); err != nil {
		return err
	}
	if v.cookie == none {
		return nil
	}
	err = retry(ctx, func(attempt int) error {
		v.loaded = v.loaded && attempt == 0
		return v.destroy(ctx)
	})
	if err == nil {
		unlist(ctx, v)
		next := v.token.renewed(time.Now())
		next.remembered = false
		v.become(next, nil, due)
	}
	return err
}

func (v *visit) destroy(ctx context.Context) error {
	if err := v.load(ctx); err != nil {
		return err
	}
	now := time.Now()
	switch {
	case v.known == nil && !v.adoptable(now):
		return nil
	case v.known != nil && v.known.env.renewed && v.early():
		return ErrGone
	case v.known != nil && !v.known.env.gone.IsZero():
		return nil
	}
	_, err := v.try.save(ctx, v.m, v.token.key(), v.known, tombstone(now), v.buried(now))
	if err == nil && v.known != nil {
		v.m.journal.note(ctx, eventDestroyed, v.token.key())
	}
	return err
}
