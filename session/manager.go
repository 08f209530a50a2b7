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
	// Cookie is the name of the cookie. One that begins with "__Host-" or "__Secure-" is always Secure. Default: "session",
	// and "__Host-session" if Secure is set, which browsers take from no other host. Builds before know the name "session"
	// alone, so with that default an answer sets a second cookie of that name, and one that such a build has set is opened if
	// the visitor has no other, or if it is the later one of the same visitor. So nobody is logged out by an update or by a
	// rollback, and as long as that lasts another host of the domain can give a "session" to a visitor who has no
	// "__Host-session". Set Cookie to "__Host-session" when no build is left that knows only "session": then there is only
	// the one cookie.
	Cookie string
	// Secure marks the cookie as for TLS only. It is marked without it when the request came by TLS: set Secure where a
	// proxy ends TLS. Default: false.
	Secure bool

	// Idle is how long a session lives after it was used last. A request that does not use it does not count, and one that
	// comes within a sixteenth of Idle after another may not count. Zero or less means 24 hours; otherwise it is 1 ms at least.
	Idle time.Duration
	// Lifetime is how long a session lives from its creation or renewal on, however much it is used, and how long a
	// browser keeps the cookie after the answer that set it, in whole seconds, rounded up; a visitor who comes back gets a
	// new one after half of that. Zero or less means 30 days; otherwise it is 1 ms at least.
	Lifetime time.Duration
	// Remember is how long a session lives from its last [Manager.Login] with remember on, or from its last [Renew], whether it is
	// used or not. It takes the place of Idle and Lifetime. Its cookie lives for Remember or for Lifetime, whichever is longer. A
	// build that knows no Login lets the session end by Idle and Lifetime when it writes the session. Zero or less means 30 days;
	// otherwise it is 1 ms at least.
	Remember time.Duration
	// BrowserCookie makes cookies without Max-Age, which a browser forgets when it is closed; not those of remembered sessions.
	// Default: false.
	BrowserCookie bool
	// Timeout is how long one call of the store may take, beside the deadline of the caller's context. After it the call fails
	// with [ErrUnavailable], if the store heeds its context. Zero or less means 5 seconds.
	Timeout time.Duration
	// Import reads the session that another library has made for this visitor. It is called at the first use of a session in a
	// request, at most once, if the visitor has no session here and has not ended one here. If ok is true, the values, each
	// encoded as by [Put], become those of a new session, and Import is not called for this visitor any more. If they are
	// larger than MaxSize, each use of the session returns [ErrTooLarge].
	//
	// Two requests of one browser may call it at the same time, and meet in one session. So, and for a rollback to the other
	// library, Import has to leave the old session as it is; a logout has to end both. Import is called in the goroutine of
	// the handler without a lock, and must not use the session of the request. Default nil: nothing is imported.
	Import func(*http.Request) (values map[string]any, ok bool)
	// MaxSize is the most that keys and encoded values of a session may take together, in bytes. Zero or less means
	// 64 KiB.
	MaxSize int

	// Keys seal the cookies. Default nil: a key that the store keeps, so that cookies outlive a restart. [Dir] keeps it in a
	// file, and any other store without a Secret method in a record with the id "secret".
	Keys *KeyRing

	// Logger gets a line for each session that is renewed, destroyed or imported, at level Debug for each that is created, and
	// for what concerns no caller: a session whose expiry could not be moved. A session is named by 16 digits of a hash, and
	// nothing in the log opens a session. Default nil: [slog.Default]. Its handler is called in another goroutine, since no
	// request waits for a log, with the values of the request's context.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Cookie == "" && o.Secure {
		o.Cookie = hostCookie
	}
	o.Cookie = cmp.Or(o.Cookie, plainCookie)
	for _, prefix := range []string{"__Host-", "__Secure-"} {
		o.Secure = o.Secure || strings.HasPrefix(o.Cookie, prefix)
	}
	o.Idle = lifetime(o.Idle, 24*time.Hour)
	o.Lifetime = lifetime(o.Lifetime, 30*24*time.Hour)
	o.Remember = lifetime(o.Remember, 30*24*time.Hour)
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
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

// lifetime is a duration of the Options. A store keeps times to the millisecond.
func lifetime(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return max(d, time.Millisecond)
}

// The default names of the cookie.
const (
	plainCookie = "session"
	hostCookie  = "__Host-session"
)

// A Manager gives each visitor a session in a [Store]. Make a Manager with [NewManager].
type Manager struct {
	store   *bounded
	opts    Options
	former  string // the name of the cookie that builds before have set, or "" if it is the same
	keyring *KeyRing
	journal *journal
}

// NewManager makes a Manager of the sessions in store, and does not use the store yet. [Manager.Ready] reports whether the
// store works.
func NewManager(store Store, opts Options) *Manager {
	m := &Manager{opts: opts.withDefaults(), keyring: opts.Keys}
	if opts.Cookie == "" && opts.Secure {
		m.former = plainCookie
	}
	m.journal = &journal{log: m.opts.Logger}
	m.store = &bounded{store: store, timeout: m.opts.Timeout, journal: m.journal}
	if m.keyring == nil {
		m.keyring = &KeyRing{source: m.store.Secret}
	}
	return m
}

// Keys returns the ring of the keys for cookies, for upgrade.Keep.
func (m *Manager) Keys() *KeyRing { return m.keyring }

// Status returns the counts since the start of the process.
func (m *Manager) Status() Status { return m.journal.status() }

// Ready returns an error if the store cannot be written, if the secret of the store or the file of the keys cannot be used, or
// if an upgrade would lose the sessions, as with [Memory]. Ready writes a record and removes it.
func (m *Manager) Ready(ctx context.Context) error {
	if err := m.keyring.ready(ctx); err != nil {
		return err
	}
	if _, alone := m.store.store.(singleProcess); alone && m.keyring.hasPeer() {
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

// Cohort returns a random id that stays with the visitor: through renewals and logouts, upgrades and restarts. The id is read
// from the cookie, without the store. The signature is that of canary.Options.Key.
//
// A visitor without a cookie gets an id with the first call, and the answer to r sets the cookie. Cohort returns "" if the
// answer cannot set it: outside of [Manager.Middleware], after the header was sent, and for a request that another site made a
// browser send with an unsafe method, such as a form POST, because the visitor may have a cookie that the browser left out.
//
// An answer that Cohort was called for gets Vary: Cookie.
func (m *Manager) Cohort(r *http.Request) string {
	if v := m.visit(r.Context()); v != nil {
		return v.cohort(request.MaySetIdentity(r))
	}
	return m.outside(r).cohort
}

// Started returns when the visitor's session began, to the second, as the cookie of the request has it, and false if no cookie
// can be opened. A [Renew] or a login keeps the time; after a [Destroy], or when a session that had ended is written again, the
// next request has a new time. The store is not asked, so the session may have ended since. If a visitor's cookie was only made
// for [Manager.Cohort], Started returns when it was made.
//
// With Started a router keeps visitors whose session began before a rollout on the old version. An answer that Started was
// called for inside of [Manager.Middleware] gets Vary: Cookie.
func (m *Manager) Started(r *http.Request) (began time.Time, ok bool) {
	var born uint32
	if v := m.visit(r.Context()); v != nil {
		v.use()
		born = v.began
	} else {
		born = m.outside(r).born
	}
	if born == 0 {
		return time.Time{}, false
	}
	return time.Unix(int64(born), 0), true
}

// outside is the token in the cookie of a request without a visit, or the zero token.
func (m *Manager) outside(r *http.Request) token {
	memory := scratches.Get().(*scratch)
	f := m.find(r.Header["Cookie"], time.Now(), memory)
	scratches.Put(memory)
	return f.token
}

// scratches are for requests without a visit.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Middleware lets next use the session of the visitor, through the context of the request. Put the Middleware outside of the
// router. A request that does not use the session costs no access to the store and one allocation. A cookie that was changed
// makes a new visitor.
//
// An answer sets the cookie after a write, a [Renew] or a [Destroy], and if the visitor needs a cookie for [Manager.Cohort].
// Such an answer is marked, so that shared caches do not store it. An answer to a request that read its session or its cohort
// gets Vary: Cookie. All other answers are as the handler made them. If next panics, the cookie is put into the header before
// the panic goes on, for the answer of a handler further out.
//
// The writer for next flushes, hijacks and copies like the wrapped writer, and has Unwrap for [http.ResponseController]. A
// handler that hijacks the connection and writes the answer itself finds the cookie in Header of the writer, and has to send
// it: after a Renew the visitor is logged out without the new cookie.
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

// join makes the visit of a request in the Slot and the Writer of a middleware further out. It returns false if there are none
// to share.
func (m *Manager) join(w http.ResponseWriter, r *http.Request) bool {
	slot, writer := request.Shared(w, r)
	if slot == nil || slot.Get(request.Session) != nil {
		return false
	}
	v := &visit{}
	v.arrive(m, slot, writer, r)
	return slot.Set(request.Session, v)
}

// visit returns the visit of this manager in ctx, or nil.
func (m *Manager) visit(ctx context.Context) *visit {
	for s := request.From(ctx); s != nil; s = s.Outer() {
		if v, ok := s.Get(request.Session).(*visit); ok && v.m == m {
			return v
		}
	}
	return nil
}

// expiry is the expiry of a session that is used now. The time is rounded up, because stores cut times to the millisecond.
func (m *Manager) expiry(e *envelope, now time.Time) time.Time {
	if e.remembered {
		return ceil(e.created.Add(m.opts.Remember))
	}
	idle, life := now.Add(m.opts.Idle), e.created.Add(m.opts.Lifetime)
	if life.Before(idle) {
		return ceil(life)
	}
	return ceil(idle)
}

// load reads a record, and returns nil if there is none.
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

// save writes a record: over old, which is the record as loaded, or a new record if old is nil.
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

// stored is a record as known to this process. The fields do not change.
type stored struct {
	rev     uint64
	expires time.Time
	env     *envelope
}
