package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/midair-go/midair/internal/request"
)

// An Info is a session of a user, as found by [Manager.List].
type Info struct {
	// ID names the login that the session began with, for [Manager.Revoke], and stays when the session is renewed. Nobody can
	// open the session with it.
	ID string
	// Started is when the user logged in.
	Started time.Time
	// Expires is when the session ends unless it is used again.
	Expires time.Time
	// Remembered reports whether the user asked to be remembered at the login.
	Remembered bool
	// Current reports whether the session is the one of the context that List was called with.
	Current bool
	// Values are for reading: the name of the device, for example, if the program has put it there at the login.
	Values *Values
}

// Login gives the visitor's session another id and cookie, as [Renew] does, and binds the session to user: any text but "" that
// names one user of the program and never another. If remember is true, the session lives for [Options].Remember and the
// browser keeps the cookie at least as long. The values and the cohort stay, also if the session was bound to another user:
// call [Destroy] first to drop the values. A visitor without a session gets a new session, which is in the store when Login
// returns.
//
// Call Login where the password was checked. As with Renew, Login returns [ErrHeaderSent] after the header of the answer went
// out. Login returns [ErrGone] if the session was ended meanwhile, also by RevokeAll for user, and [ErrNoSession] if ctx does
// not come from the Middleware or from Load of m. After an error the visitor is not logged in.
//
// The sessions of a user are listed in a record of the same store. A user has up to 1,000 sessions: a further login revokes the
// oldest login.
func (m *Manager) Login(ctx context.Context, user string, remember bool) error {
	if user == "" {
		return errors.New("session: Login without a user: pass the id of the user, and call Destroy to log out")
	}
	v := m.visit(ctx)
	if v == nil {
		return ErrNoSession
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
	mv := &move{v: v, user: user, alone: v.cookie == none}
	v.mint()
	if err := v.load(ctx); err != nil {
		return err
	}
	if v.known != nil && !v.known.env.gone.IsZero() && !v.known.env.renewed { // to log in after a revocation is right
		v.become(v.token.renewed(time.Now()), nil, fresh)
		mv.alone = true
	}
	mv.next = v.token.renewed(time.Now())
	mv.next.remembered = remember
	if err := mv.run(ctx); err != nil {
		return err
	}
	(registry{m, user}).tidy(ctx)
	return nil
}

// User returns the user of the visitor's session, or "" without a login.
func (m *Manager) User(ctx context.Context) (user string, err error) {
	v := m.visit(ctx)
	if v == nil {
		return "", ErrNoSession
	}
	user, _, err = whose(ctx, v)
	return user, err
}

// whose returns the user of a visit and the login.
func whose(ctx context.Context, v *visit) (string, login, error) {
	if _, err := v.read(ctx); err != nil {
		return "", login{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cookie == none || v.known == nil || v.over(time.Now()) {
		return "", login{}, nil
	}
	return v.known.env.user, v.known.env.login, nil
}

// List returns the sessions of a user, the latest login first. Each session is read from the store, and ended sessions are
// removed from the list. The context may be any; with the context of a request, Current is set.
//
// Versions of this package without Login know no list. A session renewed by such a version is missing until a version with
// Login has served the session once.
func (m *Manager) List(ctx context.Context, user string) ([]Info, error) {
	g := registry{m, user}
	r, err := g.load(ctx)
	if err != nil {
		return nil, err
	}
	current := m.currentKey(ctx)
	found := map[string]Info{}
	var dead []string
	for key, e := range r.sessions {
		known, err := m.load(ctx, key)
		if err != nil {
			return nil, err
		}
		if known == nil || !known.env.gone.IsZero() || known.env.user != user {
			if e.old(time.Now()) {
				dead = append(dead, key)
			}
			continue
		}
		// A renewal that was interrupted leaves two sessions of one login, and nobody has the cookie of one.
		if before, ok := found[e.login.ID]; !ok || key == current || !before.Current && known.expires.After(before.Expires) {
			found[e.login.ID] = Info{ID: e.login.ID, Started: time.UnixMilli(e.login.At), Expires: known.expires,
				Remembered: known.env.remembered, Current: key == current, Values: &Values{m: known.env.clone().values}}
		}
	}
	infos := make([]Info, 0, len(found))
	for _, info := range found {
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b Info) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.ID, b.ID))
	})
	_ = g.sweep(ctx, r, dead) // the next List tries again
	return infos, nil
}

// currentKey is the key of the visitor's session, or "".
func (m *Manager) currentKey(ctx context.Context) string {
	v := m.visit(ctx)
	if v == nil {
		return ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cookie == none {
		return ""
	}
	return v.token.key()
}

// Revoke ends the session of a user with this [Info].ID, in whatever process. When Revoke has returned nil, no request reads or
// writes the session, apart from values that a request under way has read already. Revoke returns [ErrNotFound] if the user has
// no such session, so an id of another user does nothing. After another error call Revoke again.
func (m *Manager) Revoke(ctx context.Context, user, id string) error {
	n, err := m.revoke(ctx, user, func(e entry) bool { return e.login.ID == id }, false)
	if err == nil && n == 0 {
		return fmt.Errorf("session: revoke: %w", ErrNotFound)
	}
	return err
}

// RevokeAll ends all sessions of a user, as [Manager.Revoke] does, and returns how many. A login under way fails with
// [ErrGone], or comes after RevokeAll. After an error call RevokeAll again: some sessions may live.
//
// Versions of this package without Login know no list. A session renewed by such a version ends when a version with Login
// serves the session the next time, and not before.
func (m *Manager) RevokeAll(ctx context.Context, user string) (n int, err error) {
	return m.revoke(ctx, user, func(entry) bool { return true }, true)
}

// RevokeOthers ends all sessions of the visitor's user but the visitor's own, and returns how many. It returns [ErrGone] if the
// own session was ended meanwhile, and [ErrNotFound] if the visitor is not logged in.
func (m *Manager) RevokeOthers(ctx context.Context) (n int, err error) {
	v := m.visit(ctx)
	if v == nil {
		return 0, ErrNoSession
	}
	if err := reload(ctx, v); err != nil {
		return 0, err
	}
	user, own, err := whose(ctx, v)
	if err == nil && user == "" {
		err = fmt.Errorf("session: nobody has logged in: %w", ErrNotFound)
	}
	if err != nil {
		return 0, err
	}
	return m.revoke(ctx, user, func(e entry) bool { return e.login.ID != own.ID }, true)
}

// revoke ends sessions of a user. The visit of ctx forgets the own session, which may be among the revoked sessions.
func (m *Manager) revoke(ctx context.Context, user string, pick func(entry) bool, all bool) (int, error) {
	n, err := registry{m, user}.revoke(ctx, pick, all)
	if v := m.visit(ctx); v != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.cookie > fresh {
			v.loaded = false
		}
	}
	return n, err
}

// Load returns a context in which [Get], [Put], [Update], [Renew], [Destroy] and [Manager.Login] use the session of a client
// that has sent token: for gRPC, for messages of a WebSocket, and whatever else has no header for cookies. The token is an
// earlier result of Commit, the value of a cookie, or "" for an unknown client. A changed token makes a new client and no
// error. Load does not read the session, but the first call in a process may wait a second for the store's key. The context
// lives as long as ctx.
func (m *Manager) Load(ctx context.Context, token string) context.Context {
	return new(explicit).open(ctx, m, token)
}

// Commit returns the token that has to be sent to the client, and whether there is such a token: after a first write, a Renew,
// a Login or a Destroy, and if half of the life of the old token is over. Call Commit once, when the answer begins. A later
// write that would need another token returns [ErrHeaderSent]. The context is a context of Load; with any other context Commit
// does nothing.
func (m *Manager) Commit(ctx context.Context) (token string, changed bool) {
	if v := m.visit(ctx); v != nil && v.made != nil {
		return commit(v)
	}
	return "", false
}

// Reload forgets what the context knows of its session and reads the session from the store, for contexts that live long, such
// as the context of a WebSocket. Reload returns [ErrGone] if the session was destroyed, revoked or renewed by another request,
// or has expired: close the connection then. If there was no session, Reload returns nil.
func (m *Manager) Reload(ctx context.Context) error {
	v := m.visit(ctx)
	if v == nil {
		return ErrNoSession
	}
	return reload(ctx, v)
}

// Attempt begins an attempt to answer r that may fail, and be followed by another attempt for the same visitor, as in a router
// that rescues requests. The function undo takes back the changes of the attempt: values, a new session, a Renew, Login or
// Destroy, and the cookie are as before. Undo waits for a write of the attempt under way, and then for the store, for two
// seconds at most. A later write of others is never overwritten: then the changes stay, and a line in the log says so. The
// changes stay too if the process dies before undo, and if the header was sent with a new cookie. A write of the failed attempt
// after undo returns [ErrGone].
//
// Call Attempt with the request that the first attempt gets. The next attempt needs a request of its own, whose context does
// not come from the context of r. Attempt costs an access to the store only if undo is called after a write. Without a
// Middleware of m around r, undo does nothing. Undo need not be called.
func (m *Manager) Attempt(r *http.Request) (undo func()) {
	v := m.visit(r.Context())
	if v == nil {
		return func() {}
	}
	a := begin(v, request.From(r.Context()))
	return func() { a.undo(r.Context()) }
}
