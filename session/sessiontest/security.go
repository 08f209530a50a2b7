package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// Security checks the requirements of the OWASP Application Security Verification Standard 5.0 that a library can fulfil. Each
// subtest has the number of a requirement, and uses a [session.Manager] on a store of its own, from open.
//
// The program has to fulfil these requirements of the same chapters: 7.1.1 to 7.1.3 (the rules are written down), 7.4.4 (each
// page has a way to log out), 7.5.1 (a login again before the address or the password is changed), 7.5.3 (a login again before
// highly sensitive operations) and 7.6.1 and 7.6.2 (sessions of a federation).
func Security(t *testing.T, open func(t *testing.T) session.Store) {
	for _, c := range requirements {
		t.Run(c.number, func(t *testing.T) {
			s := newSecured(t, open(t), session.Options{Idle: c.idle, Lifetime: c.life})
			c.check(s)
		})
	}
}

var requirements = []struct {
	number     string
	idle, life time.Duration // zero for the default
	check      func(*secured)
}{
	{number: "3.3.1 SecureAndPrefix", check: (*secured).attributes},
	{number: "3.3.2 SameSite", check: (*secured).sameSite},
	{number: "3.3.3 HostPrefix", check: (*secured).hostPrefix},
	{number: "3.3.4 HttpOnly", check: (*secured).httpOnly},
	{number: "3.3.5 LengthOfTheCookie", check: (*secured).length},
	{number: "7.2.1 VerifiedByTheServer", check: (*secured).verified},
	{number: "7.2.2 TokensAreMadeForEachSession", check: (*secured).dynamic},
	{number: "7.2.3 TokensAreRandom", check: (*secured).random},
	{number: "7.2.4 ANewTokenForEachLogin", check: (*secured).loginRenews},
	{number: "7.3.1 EndsWhenNotUsed", idle: time.Second, check: (*secured).idle},
	{number: "7.3.2 EndsHoweverMuchItIsUsed", life: time.Second, check: (*secured).lifetime},
	{number: "7.4.1 NoUseAfterTheEnd", check: (*secured).logout},
	{number: "7.4.2 AllSessionsOfADisabledUser", check: (*secured).disabled},
	{number: "7.4.3 AllOtherSessions", check: (*secured).others},
	{number: "7.4.5 AnAdministratorEndsSessions", check: (*secured).administrator},
	{number: "7.5.2 AUserSeesAndEndsSessions", check: (*secured).list},
	{number: "9.1.1 NoContentBeforeTheSeal", check: (*secured).sealed},
	{number: "9.1.2 OneAlgorithm", check: (*secured).algorithm},
	{number: "9.1.3 KeysOfTheServerOnly", check: (*secured).foreignKeys},
	{number: "9.2.1 WithinItsTime", life: time.Second, check: (*secured).validity},
	{number: "9.2.2 OfItsKind", check: (*secured).kind},
	{number: "9.2.3 ForThisService", check: (*secured).audience},
	{number: "9.2.4 KeysForSeveralServices", check: (*secured).audience},
}

const cookieName = "__Host-session"

// A secured service is a Manager with a store.
type secured struct {
	*testing.T
	store *noted

	opts session.Options
	sm   *session.Manager
}

func newSecured(t *testing.T, store session.Store, opts session.Options) *secured {
	keys, err := session.NewKeyRing([]byte("a secret for tests, 32 bytes long"))
	if err != nil {
		t.Fatal(err)
	}
	opts.Keys = keys
	if opts.Cookie == "" {
		opts.Cookie = cookieName
	}
	n := &noted{Store: store}
	return &secured{T: t, store: n, opts: opts, sm: session.NewManager(n, opts)}
}

// A noted store remembers all ids and data from Create and Swap.
type noted struct {
	session.Store
	mu  sync.Mutex
	all bytes.Buffer
}

func (n *noted) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	n.mu.Lock()
	fmt.Fprintln(&n.all, id, string(data))
	n.mu.Unlock()
	return n.Store.Create(ctx, id, data, expires)
}

func (n *noted) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	n.mu.Lock()
	fmt.Fprintln(&n.all, id, string(data))
	n.mu.Unlock()
	return n.Store.Swap(ctx, id, rev, data, expires)
}

func (n *noted) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all.String()
}

// A client is a browser.
type client struct {
	s      *secured
	token  string
	header string // the last Set-Cookie
}

func (s *secured) client() *client { return &client{s: s} }

// with returns another browser, with the given token.
func (c *client) with(token string) *client { return &client{s: c.s, token: token} }

// ask sends a request, calls fn as the handler, and returns the error of fn.
func (c *client) ask(fn func(r *http.Request) error) (err error) {
	h := c.s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { err = fn(r) }))
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	if c.token != "" {
		r.Header.Set("Cookie", c.s.opts.Cookie+"="+c.token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, cookie := range w.Result().Cookies() {
		if cookie.Name == c.s.opts.Cookie {
			c.token, c.header = cookie.Value, w.Result().Header.Get("Set-Cookie")
		}
	}
	return err
}

// must is ask for a fn that has to succeed.
func (c *client) must(fn func(r *http.Request) error) {
	c.s.Helper()
	if err := c.ask(fn); err != nil {
		c.s.Fatal(err)
	}
}

func (c *client) login(user string) {
	c.s.Helper()
	c.must(func(r *http.Request) error { return c.s.sm.Login(r.Context(), user, false) })
}

func (c *client) put(value string) {
	c.s.Helper()
	c.must(func(r *http.Request) error { return session.Put(r.Context(), "k", value) })
}

// user returns the user of the session, and the value from put.
func (c *client) user() (user, value string) {
	c.s.Helper()
	c.must(func(r *http.Request) (err error) {
		if user, err = c.s.sm.User(r.Context()); err == nil {
			value, _, err = session.Get[string](r.Context(), "k")
		}
		return err
	})
	return user, value
}

// wantNothing checks that a token opens no session: there is nothing to read, and a write fails or goes to a new session.
func (s *secured) wantNothing(token string) {
	s.Helper()
	if user, value := s.client().with(token).user(); user != "" || value != "" {
		s.Errorf("the token reads user %q and value %q", user, value)
	}
	thief := s.client().with(token)
	err := thief.ask(func(r *http.Request) error { return session.Put(r.Context(), "k", "stolen") })
	if err == nil && thief.token == token {
		s.Error("the token writes")
	}
	if err != nil && !errors.Is(err, session.ErrGone) {
		s.Errorf("Put = %v", err)
	}
}

// wantUser checks the user of the session.
func (c *client) wantUser(want string) {
	c.s.Helper()
	if user, _ := c.user(); user != want {
		c.s.Errorf("the user is %q, want %q", user, want)
	}
}

func (s *secured) cookie() string {
	c := s.client()
	c.login("ann")
	return c.header
}

func (s *secured) attributes() {
	if c := s.cookie(); !strings.Contains(c, "; Secure") || !strings.HasPrefix(c, "__Host-") {
		s.Errorf("cookie %s", c)
	}
}

func (s *secured) sameSite() {
	if c := s.cookie(); !strings.Contains(c, "; SameSite=Lax") && !strings.Contains(c, "; SameSite=Strict") {
		s.Errorf("cookie %s", c)
	}
}

func (s *secured) hostPrefix() {
	c := s.cookie()
	if !strings.HasPrefix(c, "__Host-") || !strings.Contains(c, "; Path=/;") || strings.Contains(c, "Domain=") {
		s.Errorf("cookie %s", c)
	}
}

// httpOnly also checks that the token is in the cookie only, and not in the store, which a backup may show.
func (s *secured) httpOnly() {
	c := s.client()
	c.login("ann")
	c.put("v")
	if !strings.Contains(c.header, "; HttpOnly") {
		s.Errorf("cookie %s", c.header)
	}
	_, sealed, _ := strings.Cut(c.token, ".")
	if text := s.store.text(); strings.Contains(text, sealed) || !strings.Contains(text, "ann") {
		s.Errorf("the store has the token: %s", text)
	}
}

func (s *secured) length() {
	c := s.client()
	c.put(strings.Repeat("x", 50_000))
	c.login(strings.Repeat("ann", 1000))
	if n := len(cookieName) + len(c.token); n > 4096 {
		s.Errorf("name and value have %d bytes", n)
	}
}
