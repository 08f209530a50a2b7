package session

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/request"
)

// A visit is the state of the session in a request.
type visit struct {
	m       *Manager
	slot    *request.Slot
	tls     *tls.ConnectionState // nil if the request did not come by TLS
	start   time.Time
	made    *explicit // nil if the visit belongs to an answer
	cohorts string    // the cohort of the cookie that the request has, or ""; never changes
	began   uint32    // when the session of that cookie began, or 0; never changes
	cookies []string  // the Cookie lines of the request
	memory  scratch

	inherited inheritance
	try       tries // its gate is taken after mu

	used atomic.Bool // the answer depends on the session or on the cohort

	mu     sync.Mutex
	sent   bool // the header is out
	cookie cookieState
	writes int     // writes under way
	token  token   // of all states but none
	loaded bool    // known is up to date with the store, as far as one can be
	known  *stored // nil: there is no record
}

// cookieState is whether the client has the token of a visit.
type cookieState uint8

const (
	none  cookieState = iota // the request has no cookie that can be opened, and there is no token
	fresh                    // the token was made in this request, and nothing was stored under it
	due                      // the client needs a cookie with the token
	held                     // the client has the token
	aged                     // the client has the token, and gets a new cookie if the request uses the session
	shut                     // the request has a cookie that no key opens, and the store has not given its key yet
)

// An arrival is all that the outermost Middleware needs for a request: one allocation.
type arrival struct {
	visit
	slot   request.Slot
	writer request.Writer
}

// An explicit visit belongs to no answer of an HTTP handler.
type explicit struct {
	visit
	slot request.Slot
}

// arrive makes v the visit of a request.
func (v *visit) arrive(m *Manager, slot *request.Slot, w *request.Writer, r *http.Request) {
	v.m, v.slot, v.tls, v.start = m, slot, r.TLS, time.Now()
	v.recognize(r.Header["Cookie"])
	if m.opts.Import != nil {
		v.inherited.r = r
	}
	if !w.BeforeHeader(v, 0) {
		v.sent = true // no hook was added, so nobody else writes it
	}
}

// recognize looks for the visitor's token in lines of a Cookie header.
func (v *visit) recognize(lines []string) {
	v.cookies = lines
	switch f := v.m.find(lines, v.start, &v.memory); {
	case f.ok:
		v.take(f)
		v.cohorts, v.began = f.token.cohort, f.token.born
	case f.refused && v.m.keyring.pending():
		v.cookie = shut
	case f.refused:
		v.m.journal.refused.Add(1)
	}
}

// take gives the visit the token of a cookie.
func (v *visit) take(f found) {
	v.token, v.cookie = f.token, held
	if f.stale {
		v.cookie = aged
	}
}

// current finds the visit of the innermost Middleware.
func current(ctx context.Context) (*visit, error) {
	v, ok := request.Find(ctx, request.Session).(*visit)
	if !ok {
		return nil, ErrNoSession
	}
	return v, nil
}

// BeforeHeader adds the cookie if the client needs a cookie. The call comes this late because handlers may replace the header,
// and because an informational answer must not carry the cookie. While a first write is under way, the answer carries the
// cookie, because the client may need it.
func (v *visit) BeforeHeader(h http.Header, _ uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sent = true
	if v.used.Load() {
		request.AddVaryCookie(h)
	}
	renew := v.cookie == aged && v.used.Load()
	if v.cookie == due || v.cookie == fresh && v.writes > 0 || renew {
		v.cookie = due
		if renew || v.slot.Err() == nil { // without renew it is not known after the request's end whether the header arrives
			v.cookie = held
		}
		v.m.addCookies(h, v.token, time.Now(), v.tls != nil)
		request.AddPrivate(h)
	}
}

// late is called with mu held. It reports whether a new cookie cannot reach the client any more: the header is out, or the
// request has ended. An http.TimeoutHandler around the Middleware ends the request without a header from here.
func (v *visit) late() bool { return v.sent || v.slot.Err() != nil }

// use notes that the answer depends on the cookie.
func (v *visit) use() {
	v.slot.NoteCookie()
	if !v.used.Load() {
		v.used.Store(true)
	}
}

// cohort returns the cohort of the visitor. A visitor without a cohort gets a new cohort if may is true and the cookie can
// still be set.
func (v *visit) cohort(may bool) string {
	v.use()
	if v.cohorts != "" {
		return v.cohorts
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cookie == none || v.cookie == fresh {
		if !may || v.late() {
			return ""
		}
		v.mint()
		v.cookie = due
	}
	return v.token.cohort
}

// mint is called with mu held, and gives a visit without a token a new token.
func (v *visit) mint() {
	if v.cookie == none {
		v.token, v.cookie, v.known, v.loaded = newToken(v.start), fresh, nil, true
	}
}

// read loads the session, unless loaded before, and returns the values, none if there is no session. The values must not be
// changed.
func (v *visit) read(ctx context.Context) (members, error) {
	if err := v.begin(ctx); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.inherited.values) > 0 {
		if values := v.borrowed(); values != nil {
			return values, nil
		}
		if err := v.adopt(ctx); err != nil {
			return nil, err
		}
	}
	if v.cookie == none {
		return nil, nil
	}
	if err := v.load(ctx); err != nil {
		return nil, err
	}
	if v.known == nil || v.over(time.Now()) {
		return nil, nil
	}
	return v.known.env.values, nil
}

// over reports whether the known record is the rest of a session that may not be read any more.
func (v *visit) over(now time.Time) bool {
	gone := v.known.env.gone
	return !gone.IsZero() && now.After(gone.Add(grace))
}

// load is called with mu held.
func (v *visit) load(ctx context.Context) error {
	if v.loaded {
		return nil
	}
	if v.cookie == shut { // begin was not called
		return ErrUnavailable
	}
	known, err := v.m.load(ctx, v.token.key())
	if err != nil {
		return err
	}
	if known, err = vet(ctx, v.m, v.token.key(), known); err != nil {
		return err
	}
	v.know(known)
	v.touch(ctx)
	return nil
}

// know is called with mu held and sets the record of the session, nil if there is none. Whether the visitor is remembered is a
// property of the session: older builds drop the mark from the cookie.
func (v *visit) know(known *stored) {
	v.known, v.loaded = known, true
	remembered := known != nil && known.env.remembered
	if remembered && !v.token.remembered && v.cookie == held {
		v.cookie = aged
	}
	v.token.remembered = remembered
}

// touch moves the expiry of a session in use, once in a while.
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
		v.known = watch(ctx, v.m, v.token.key(), &known)
	} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, context.Canceled) {
		v.m.opts.Logger.WarnContext(ctx, "session: expiry not moved", "err", err)
	}
}

// writable loads the session for a write and returns where the write has to go. If again is true, what is known is out of
// date. If the error is nil, the write has to end with wrote.
func (v *visit) writable(ctx context.Context, again bool) (token, *stored, error) {
	if err := v.begin(ctx); err != nil {
		return token{}, nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.try.over(ctx) {
		return token{}, nil, ErrGone
	}
	if again {
		v.loaded = false
	}
	if err := v.settle(ctx); err != nil {
		return token{}, nil, err
	}
	v.writes++
	return v.token, v.known, nil
}

// settle is called with mu held and loads the session. Without an error the token names a session that exists or may be
// created. A request from before the end of the session gets ErrGone: the cookie that counts is in the answer that ended the
// session. A later request has missed the answer, and gets another session.
func (v *visit) settle(ctx context.Context) error {
	if v.cookie <= due && v.late() {
		return ErrHeaderSent
	}
	if err := v.adopt(ctx); err != nil {
		return err
	}
	v.mint()
	if err := v.load(ctx); err != nil {
		return err
	}
	now := time.Now()
	switch {
	case v.known != nil && v.known.env.gone.IsZero():
		return nil
	case v.known != nil && v.early():
		return ErrGone
	case v.known == nil && v.adoptable(now):
		return nil
	case v.late():
		return ErrHeaderSent
	}
	v.become(v.token.renewed(now), nil, fresh)
	return nil
}

// early reports whether the request may have begun before the known end of the session.
func (v *visit) early() bool { return v.start.Before(v.known.env.gone.Add(grace)) }

// adoptable reports whether the id of the token may be created.
func (v *visit) adoptable(now time.Time) bool {
	return now.Sub(time.Unix(int64(v.token.born), 0)) < adoptable
}

// become is called with mu held: from now on the visitor has the token t.
func (v *visit) become(t token, known *stored, state cookieState) {
	v.token, v.cookie = t, state
	v.know(known)
}

// wrote ends a write after writable. If next is not nil, next was stored under t.
func (v *visit) wrote(ctx context.Context, t token, next *stored) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.writes--
	if next == nil || v.token.id != t.id || v.try.over(ctx) {
		return
	}
	if v.cookie == held && v.known == nil && v.outlived(next.env.created) {
		v.cookie = aged
	}
	v.know(next)
	if v.cookie == fresh {
		v.cookie = due
	}
}

// outlived reports whether a session that has just been made under the client's token may live longer than the cookie. A 64th
// of the life, and at most 4 s, is not worth another cookie.
func (v *visit) outlived(created time.Time) bool {
	age := created.Sub(time.Unix(int64(v.token.issued&^1), 0))
	return age > min(2*cookieSlack, v.m.opts.Lifetime/64)
}
