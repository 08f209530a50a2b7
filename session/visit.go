package session

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// adoptable is how long the id of a cookie may be created in the store. The id of a visitor's first cookie exists
	// nowhere else yet, so that two first writes at the same time meet in one session. After this time an id that the
	// store does not know is never taken: it was expired or removed. It is the same in all versions.
	adoptable = time.Hour
	// margin is what clocks of two hosts may differ.
	margin = time.Minute
	// grace is how long requests that were on their way when a session was renewed can read it as it was before.
	grace = 30 * time.Second
	// rest is how long the end of a session is remembered at least, for requests that began before it.
	rest = 10 * time.Minute
)

// A visit is a request that passes the Middleware. It is the request's context and holds the request and what
// answers it, all in one allocation.
type visit struct {
	parent context.Context
	m      *Manager
	w      http.ResponseWriter
	req    http.Request
	start  time.Time
	cohort string // never changes
	memory scratch

	sent atomic.Bool // the header is out; written under mu

	mu     sync.Mutex
	token  token
	unsent bool    // the client does not have the token yet
	loaded bool    // known is up to date with the store, as far as one can be
	known  *stored // nil: there is no record
}

var _ context.Context = (*visit)(nil)

type visitKey struct{}

// arrive makes the visit of a request.
func (m *Manager) arrive(w http.ResponseWriter, r *http.Request) *visit {
	v := &visit{parent: r.Context(), m: m, w: w, start: time.Now()}
	v.req = *r.WithContext(v)
	var ok bool
	v.token, v.unsent, ok = m.find(r.Header, v.start, &v.memory)
	if !ok {
		v.token, v.unsent = newToken(v.start), true
	}
	v.cohort = v.token.cohort
	return v
}

// Deadline, Done and Err are those of the request.
func (v *visit) Deadline() (time.Time, bool) { return v.parent.Deadline() }

// Done is that of the request.
func (v *visit) Done() <-chan struct{} { return v.parent.Done() }

// Err is that of the request.
func (v *visit) Err() error { return v.parent.Err() }

// Value knows the visit and what the request's context knows.
func (v *visit) Value(key any) any {
	if _, ok := key.(visitKey); ok {
		return v
	}
	return v.parent.Value(key)
}

// current finds the visit of the innermost Middleware.
func current(ctx context.Context) (*visit, error) {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok {
		return nil, ErrNoSession
	}
	return v, nil
}

// sendCookie runs when the header is about to go out, and does something the first time only. It writes the cookie this
// late because handlers inside may replace the header, and because an informational answer must not carry it.
func (v *visit) sendCookie() {
	if v.sent.Load() {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sent.Load() {
		return
	}
	v.sent.Store(true)
	if !v.unsent {
		return
	}
	v.unsent = false
	h := v.w.Header()
	h.Add("Set-Cookie", v.m.cookie(v.m.seal(v.token, time.Now()), v.req.TLS != nil))
	h.Add("Cache-Control", `no-cache="Set-Cookie"`)
}

// read loads the session, if that was not done yet, and returns its values: none if there is no session. They must not
// be changed.
func (v *visit) read(ctx context.Context) (members, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.load(ctx); err != nil {
		return nil, err
	}
	if v.known == nil || v.over(time.Now()) {
		return nil, nil
	}
	return v.known.env.values, nil
}

// over reports whether what is known is the rest of a session that nobody may read any more.
func (v *visit) over(now time.Time) bool {
	gone := v.known.env.gone
	return !gone.IsZero() && now.After(gone.Add(grace))
}

// load is called with mu held.
func (v *visit) load(ctx context.Context) error {
	if v.loaded {
		return nil
	}
	known, err := v.m.load(ctx, v.token.key())
	if err != nil {
		return err
	}
	v.known, v.loaded = known, true
	v.touch(ctx)
	return nil
}

// touch moves the expiry of a session that is used, once in a while.
func (v *visit) touch(ctx context.Context) {
	if v.known == nil || !v.known.env.gone.IsZero() {
		return
	}
	expires := v.m.expiry(v.known.env, time.Now())
	if expires.Sub(v.known.expires) < v.m.opts.Idle/16 {
		return
	}
	err := v.m.store.Touch(ctx, v.token.key(), expires)
	if err == nil {
		known := *v.known
		known.expires = expires
		v.known = &known
	} else if !errors.Is(err, ErrNotFound) {
		v.m.opts.Logger.WarnContext(ctx, "session: expiry not moved", "err", err)
	}
}

// writable loads the session for a write and says where that has to go. fresh means that what is known
// is not good enough.
func (v *visit) writable(ctx context.Context, fresh bool) (token, *stored, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if fresh {
		v.loaded = false
	}
	if err := v.load(ctx); err != nil {
		return token{}, nil, err
	}
	if err := v.settle(); err != nil {
		return token{}, nil, err
	}
	return v.token, v.known, nil
}

// settle is called with mu held after a load, and sees to it that the token names a session that exists or may
// be created. A request that began before its session ended gets ErrGone: the answer that ended it carries the cookie
// that counts. A later one has missed that answer, and gets another session.
func (v *visit) settle() error {
	now := time.Now()
	switch {
	case v.unsent && v.sent.Load():
		return ErrHeaderSent
	case v.known != nil && v.known.env.gone.IsZero():
		return nil
	case v.known != nil && v.early():
		return ErrGone
	case v.known == nil && v.adoptable(now):
		return nil
	case v.sent.Load():
		return ErrHeaderSent
	}
	v.become(v.token.renewed(now), nil)
	return nil
}

// early reports whether the request may have begun before what is known of its session's end.
func (v *visit) early() bool { return v.start.Before(v.known.env.gone.Add(grace)) }

// adoptable reports whether the id of the token may be created.
func (v *visit) adoptable(now time.Time) bool {
	return now.Sub(time.Unix(int64(v.token.born), 0)) < adoptable
}

// become is called with mu held: from now on the visitor has this token.
func (v *visit) become(t token, known *stored) {
	v.token, v.known, v.loaded, v.unsent = t, known, true, true
}

// learn takes note of what was stored.
func (v *visit) learn(t token, known *stored) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.token.id == t.id {
		v.known, v.loaded = known, true
	}
}
