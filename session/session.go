package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"
)

const (
	// maxAttempts is how often a write is tried while others come first. With the pauses it takes some seconds.
	maxAttempts = 400
	// maxPause is the longest pause between two attempts.
	maxPause = 20 * time.Millisecond
	// checkLimit is how long Renew waits for the store to learn whether a write that has failed was made all the same.
	checkLimit = 2 * time.Second
)

// Get returns the value of key in the visitor's session, and whether there is one. The session is loaded by the first
// call in a request; later ones see the same, and what the request itself has changed.
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

// Update changes the visitor's session by fn. When it returns nil the change is in the store. No update is lost, in
// whatever process: if the session was changed meanwhile, fn runs again on what it is now, so fn should do nothing but
// that. A session that does not exist is created, unless fn leaves it empty. If fn returns an error, nothing is stored
// and Update returns that error.
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
	defer func() { v.wrote(t, saved) }()
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
	saved, err = v.m.save(ctx, t.key(), known, env, v.m.expiry(env, now))
	return err
}

// Renew gives the visitor's session another id and cookie; its values and the cohort stay. Call it whenever the visitor
// gains rights, a login above all. Whoever knows the old cookie reads the session as it was before for half a minute, so
// that requests on their way are answered, and cannot write it, nor ever see what is written after the renewal.
//
// It has to be called before the header of the answer goes out and before the request ends; otherwise it returns
// [ErrHeaderSent] and does nothing. The request also ends when the client goes away, and with [http.TimeoutHandler]: put that
// inside of the Middleware, because an http.TimeoutHandler around the Middleware drops the cookie of a handler that was too slow.
func Renew(ctx context.Context) error {
	v, err := current(ctx)
	if err != nil {
		return err
	}
	v.use()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.late() {
		return ErrHeaderSent
	}
	if v.cookie == none { // there is no id that anybody could know
		v.mint()
		v.cookie = due
		return nil
	}
	next := v.token.renewed(time.Now())
	var copied *stored
	err = retry(ctx, func(attempt int) error {
		v.loaded = v.loaded && attempt == 0
		copied, err = v.renew(ctx, next, copied)
		return err
	})
	if err == nil {
		v.become(next, copied, due)
	} else if copied != nil {
		err = errors.Join(err, v.m.store.Delete(context.WithoutCancel(ctx), next.key()))
	}
	return err
}

// renew copies the session to the token next, over the copy that an earlier attempt made, and then ends it under its
// old one if it is still what was copied. In this order a process that dies in between loses nothing.
func (v *visit) renew(ctx context.Context, next token, copied *stored) (*stored, error) {
	if err := v.settle(ctx); err != nil {
		return copied, err
	}
	if v.known == nil && copied != nil {
		return copied, ErrGone
	}
	now := time.Now()
	end := tombstone(now)
	end.renewed = true
	if v.known != nil {
		env := v.known.env.clone()
		env.created = now.Truncate(time.Second)
		saved, err := v.m.save(ctx, next.key(), copied, env, v.m.expiry(env, now))
		if err != nil {
			return copied, final{fmt.Errorf("session: renew: %w", err)}
		}
		copied = saved
		end.values, end.extra = maps.Clone(env.values), env.extra
	}
	_, err := v.m.save(ctx, v.token.key(), v.known, end, v.buried(now))
	if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) && v.isStored(ctx, end) {
		err = nil
	}
	return copied, err
}

// isStored reports whether a tombstone is in the store although storing it returned an error: the answer of a database may get
// lost, and the visitor would be logged out if nobody noticed. It waits for the store for at most checkLimit.
func (v *visit) isStored(ctx context.Context, end *envelope) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkLimit)
	defer cancel()
	found, err := v.m.load(ctx, v.token.key())
	return err == nil && found != nil && found.env.renewed == end.renewed && found.env.gone.Equal(end.gone)
}

// buried is until when a tombstone has to stay: as long as a request may be on its way that would take the id
// for one that can be created.
func (v *visit) buried(now time.Time) time.Time {
	until := now.Add(rest)
	if t := time.Unix(int64(v.token.born), 0).Add(adoptable); t.After(until) {
		until = t
	}
	return until.Add(margin)
}

// Destroy ends the visitor's session, in whatever process: its values are removed at once, and no request that is on
// its way brings them back; those that try to write get [ErrGone]. The cohort stays. What the same request puts
// afterwards goes to a new session. If another request has renewed the session meanwhile, Destroy returns ErrGone: the
// renewed session is out of reach of this request, and lives.
func Destroy(ctx context.Context) error {
	v, err := current(ctx)
	if err != nil {
		return err
	}
	v.use()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cookie == none {
		return nil
	}
	err = retry(ctx, func(attempt int) error {
		v.loaded = v.loaded && attempt == 0
		return v.destroy(ctx)
	})
	if err == nil {
		v.become(v.token.renewed(time.Now()), nil, due)
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
	_, err := v.m.save(ctx, v.token.key(), v.known, tombstone(now), v.buried(now))
	return err
}

// final is an error that is not the store's, whatever it wraps: it is never a reason to try again.
type final struct{ error }

// retry calls fn until it meets no other writer. It passes the number of earlier calls.
func retry(ctx context.Context, fn func(attempt int) error) error {
	for attempt := range maxAttempts {
		err := fn(attempt)
		var end final
		if errors.As(err, &end) {
			return end.error
		}
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
	return ErrConflict
}

// pause waits for a random time that grows with the attempts.
func pause(ctx context.Context, attempt int) error {
	longest := min(maxPause, 100*time.Microsecond<<min(attempt, 10))
	timer := time.NewTimer(rand.N(longest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("session: %w", context.Cause(ctx))
	}
}
