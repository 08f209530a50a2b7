package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/request"
)

// Options of a [Manager]. The zero value works.
type Options struct {
	// Cookie is the name of the cookie. One that begins with "__Host-" or "__Secure-" is always Secure. Default:
	// "session".
	Cookie string
	// Secure marks the cookie as for TLS only. It is marked without it when the request came by TLS: set Secure where a
	// proxy ends TLS. Default: false.
	Secure bool

	// Idle is how long a session lives after it was used last. A request that does not use it does not count. Zero or
	// less means 24 hours.
	Idle time.Duration
	// Lifetime is how long a session lives from its creation or renewal on, however much it is used, and how long a
	// browser keeps the cookie after the answer that set it; a visitor who comes back gets a new one after half of
	// that. Less than a second means 30 days.
	Lifetime time.Duration
	// MaxSize is the most that keys and encoded values of a session may take together, in bytes. Zero or less means
	// 64 KiB.
	MaxSize int

	// Keys seal the cookies. Default nil: a key that the store keeps, as [Dir] does, so that cookies outlive a
	// restart; otherwise a random one, which lives as long as it is handed from process to process by upgrade.Keep.
	Keys *KeyRing

	// Logger gets a line for what concerns no caller: a session whose expiry could not be moved. Default nil:
	// [slog.Default]. Its handler is called in another goroutine, since no request waits for a log, with the values of the
	// request's context.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Cookie = cmp.Or(o.Cookie, "session")
	for _, prefix := range []string{"__Host-", "__Secure-"} {
		o.Secure = o.Secure || strings.HasPrefix(o.Cookie, prefix)
	}
	if o.Idle <= 0 {
		o.Idle = 24 * time.Hour
	}
	if o.Lifetime < time.Second {
		o.Lifetime = 30 * 24 * time.Hour
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 64 << 10
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	return o
}

// A Manager gives each visitor a session in a [Store]. Make one with [NewManager].
type Manager struct {
	store   Store
	opts    Options
	keyring *KeyRing
}

// NewManager makes a Manager of the sessions in store. It touches nothing yet; [Manager.Ready] tells whether the store
// works.
func NewManager(store Store, opts Options) *Manager {
	m := &Manager{store: store, opts: opts.withDefaults(), keyring: opts.Keys}
	if m.keyring == nil {
		m.keyring = &KeyRing{}
		if s, ok := store.(secretKeeper); ok {
			m.keyring.source = s.Secret
		}
	}
	return m
}

// Keys are the keys that seal the cookies, for upgrade.Keep.
func (m *Manager) Keys() *KeyRing { return m.keyring }

// Ready reports why sessions cannot be written or would not outlive a restart, nil if they can and would. It writes a
// record and removes it.
func (m *Manager) Ready(ctx context.Context) error {
	if err := m.keyring.ready(); err != nil {
		return err
	}
	if _, alone := m.store.(singleProcess); alone && m.keyring.hasPeer() {
		return errors.New("session: this process does not have the sessions of the one before, which are in its memory: use session.Dir")
	}
	id := "ready " + rand.Text()
	_, err := m.store.Create(ctx, id, []byte("{}"), time.Now().Add(time.Minute))
	if err == nil {
		err = m.store.Delete(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("session: the store cannot be written: %w", err)
	}
	return nil
}

// Cohort returns a random id that stays with the visitor: through renewals and logouts, upgrades and restarts. It is
// read from the cookie, without the store. The signature is that of canary.Options.Key.
//
// A visitor without a cookie gets an id with the first call, and the answer to r sets the cookie. Cohort returns "" if the
// answer cannot set it: outside of [Manager.Middleware], after the header was sent, and for a request that another site made
// a browser send with an unsafe method, such as a form POST, because the visitor may have a cookie that the browser left out.
//
// An answer that Cohort was called for gets Vary: Cookie.
func (m *Manager) Cohort(r *http.Request) string {
	if v := m.visit(r.Context()); v != nil {
		return v.cohort(request.MaySetIdentity(r))
	}
	memory := scratches.Get().(*scratch)
	t, _, _ := m.find(r.Header, time.Now(), memory)
	scratches.Put(memory)
	return t.cohort
}

// scratches are for requests that have no visit.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Middleware lets next use the session of the visitor, through the context of the request. It belongs outside of the
// router. A request that does not use its session costs no access to the store and one allocation. A visitor whose cookie was
// changed by somebody else is a new visitor.
//
// An answer sets the cookie after a write, a [Renew] or a [Destroy], and if the visitor needs one for [Manager.Cohort]. It is
// marked then so that shared caches do not store it. An answer to a request that read its session or its cohort gets Vary:
// Cookie. All other answers are as the handler made them. If next panics, the cookie is put into the header before the panic
// goes on, for the answer of a handler further out.
//
// The writer that next gets flushes, hijacks and copies like the one that it wraps, and it has Unwrap for
// [http.ResponseController]. A handler that hijacks the connection and writes the answer itself finds the cookie in Header of
// the writer, and has to send it: after a Renew the visitor is logged out without it.
func (m *Manager) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.visit(r.Context()) != nil { // further out there is a Middleware of this manager already
			next.ServeHTTP(w, r)
			return
		}
		if m.join(w, r) {
			next.ServeHTTP(w, r)
			return
		}
		a := &arrival{}
		w = a.writer.Wrap(w)
		inner := a.slot.Init(r, &a.writer)
		a.slot.Set(request.Session, &a.visit)
		a.arrive(m, &a.slot, &a.writer, r)
		defer a.slot.Finish(r)
		defer a.writer.Finish()
		next.ServeHTTP(w, inner)
	})
}

// join makes the visit of a request in the Slot and the Writer that a middleware further out has made. It returns false if
// there are none to share.
func (m *Manager) join(w http.ResponseWriter, r *http.Request) bool {
	slot, writer := request.Shared(w, r)
	if slot == nil || slot.Get(request.Session) != nil {
		return false
	}
	v := &visit{}
	v.arrive(m, slot, writer, r)
	return slot.Set(request.Session, v)
}

// visit finds what Middleware of this manager put into ctx.
func (m *Manager) visit(ctx context.Context) *visit {
	for s := request.From(ctx); s != nil; s = s.Outer() {
		if v, ok := s.Get(request.Session).(*visit); ok && v.m == m {
			return v
		}
	}
	return nil
}

// expiry is when a session should expire that is used now.
func (m *Manager) expiry(e *envelope, now time.Time) time.Time {
	idle, life := now.Add(m.opts.Idle), e.created.Add(m.opts.Lifetime)
	if life.Before(idle) {
		return life
	}
	return idle
}

// load reads a record. It returns nil if there is none.
func (m *Manager) load(ctx context.Context, id string) (*stored, error) {
	rec, err := m.store.Load(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	env, err := decodeEnvelope(rec.Data)
	if err != nil {
		return nil, err
	}
	return &stored{rev: rec.Rev, expires: rec.Expires, env: env}, nil
}

// save writes a record: over old, which is what was loaded, or anew if that is nil.
func (m *Manager) save(ctx context.Context, id string, old *stored, env *envelope, expires time.Time) (*stored, error) {
	data, err := env.encode()
	if err != nil {
		return nil, err
	}
	next := &stored{expires: expires, env: env}
	if old == nil {
		next.rev, err = m.store.Create(ctx, id, data, expires)
	} else {
		next.rev, err = m.store.Swap(ctx, id, old.rev, data, expires)
	}
	if err != nil {
		return nil, err
	}
	return next, nil
}

// stored is a record as this process knows it. It does not change.
type stored struct {
	rev     uint64
	expires time.Time
	env     *envelope
}
