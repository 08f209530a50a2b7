package session_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// answered asks for a path, after an attempt at another one that fails, and returns status and text.
func answered(t *testing.T, b *browser, h *site, path, first string) string {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	if first != "" {
		r.Header.Set("First", first)
	}
	res := b.do(h, r)
	body, _ := io.ReadAll(res.Body)
	return res.Status + " " + string(body)
}

// An attempt begins before the store has given the key of the cookie. Its undo keeps the session that the cookie
// names.
func TestAnUndoSparesASessionWhoseKeyCameLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := plainStore{session.Dir(t.TempDir())}
		v := newVisitor(t, newSite(good, session.Options{}))
		v.get("/put?k=k&v=v")
		v.get("/put?k=other&v=w")

		hung := newHungStore(good)
		time.AfterFunc(3*time.Second, func() { close(hung.hung) })
		s := rescue(newSite(hung, session.Options{}), nil)
		v = v.with(s)
		v.twice("/put?k=k&v=first", "/get?k=k")
		v.want("/get?k=k", "v true")
		v.want("/get?k=other", "w true")
	})
}

// The second attempt has what the first one has imported, and so have later requests.
func TestAnUndoKeepsWhatWasImported(t *testing.T) {
	for _, first := range []string{"/get?k=user", "/put?k=k&v=first", "/renew", "/logout"} {
		for _, second := range []string{"/get?k=user", "/put?k=k&v=second"} {
			t.Run(first+" "+second, func(t *testing.T) {
				s, _, _, b := importSite(t, session.Options{})
				rs := rescue(s, nil)
				if got := answered(t, b, rs, "/get?k=user", ""); got != "200 OK ann true" {
					t.Errorf("next request: %q", got)
				}
			})
		}
	}
}

// An attempt imports a session, and another request of the same browser writes it. The undo of the attempt keeps
// that.
func TestAnUndoDeletesNoImportedSessionOfOthers(t *testing.T) {
	s, _, _, b := importSite(t, session.Options{})
	other := oldBrowser(t)
	started := false
	s.handle("/other", func(r *http.Request) (string, error) {
		if started {
			return "", nil
		}
		started = true
		if _, _, err := session.Get[string](r.Context(), "user"); err != nil { // this attempt imports
			return "", err
		}
		if got := answered(t, other, s, "/put?k=k&v=other", ""); got != "200 OK " {
			t.Errorf("other: %q", got)
		}
		return "", session.Put(r.Context(), "x", "y")
	})
	rs := rescue(s, nil)
	answered(t, b, rs, "/plain", "/other")
	if got := answered(t, other, s, "/get?k=k", ""); got != "200 OK other true" {
		t.Errorf("a confirmed write: %q", got)
	}
	if got := answered(t, other, s, "/get?k=user", ""); got != "200 OK ann true" {
		t.Errorf("imported: %q", got)
	}
}

// A request with the cookies from before a login only reads. Its answer sets no cookie, which could come after that
// of the login.
func TestALateReaderTakesNoLoginAway(t *testing.T) {
	s, _, _, b := importSite(t, session.Options{})
	s.handle("/in", func(r *http.Request) (string, error) { return "", s.sm.Login(r.Context(), "ann", false) })
	s.handle("/who", func(r *http.Request) (string, error) { return s.sm.User(r.Context()) })
	late := oldBrowser(t) // the same browser, its request is on the way
	if got := answered(t, b, s, "/in", ""); got != "200 OK " {
		t.Fatal(got)
	}
	late.do(s, httptest.NewRequest("GET", "/get?k=user", nil))
	if c := late.jar["session"]; c != nil {
		b.jar["session"] = c // its answer comes last
		t.Errorf("the late answer sets a cookie")
	}
	if got := answered(t, b, s, "/who", ""); got != "200 OK ann" {
		t.Errorf("logged out: %q", got)
	}
}

// A line of the file drops the key of the store, also if the store gives the key later.
func TestADroppedKeyOfTheStoreStaysDropped(t *testing.T) {
	dir := t.TempDir()
	store := session.Dir(dir)
	before := session.NewManager(store, session.Options{})
	session.UseKeys(before.Keys())
	leaked := session.SealsWith(before.Keys())
	path := filepath.Join(t.TempDir(), "keys")
	os.WriteFile(path, []byte(strings.Repeat("a", 40)+"\ndrop "+leaked+"\n"), 0o600)
	old := time.Now().Add(-time.Hour)
	os.Chtimes(path, old, old)
	sm := session.NewManager(session.Dir(dir), session.Options{})
	if err := sm.Keys().Follow(path); err != nil {
		t.Fatal(err)
	}
	if err := sm.Ready(t.Context()); err != nil { // the store has given its key
		t.Fatal(err)
	}
	if slices.Contains(session.OpensWith(sm.Keys()), leaked) {
		t.Errorf("the leaked key %s opens: %v", leaked, sm.Keys().Status())
	}
}

// Rotate at a start while the store is away: the configured key seals, and not a random one that nobody else has.
func TestTheConfiguredKeySealsAfterAStartWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := plainStore{session.Dir(t.TempDir())}
		secret := []byte(strings.Repeat("s", 40))
		one := newSite(good, session.Options{})
		if err := one.sm.Keys().Rotate(secret); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		hung := newHungStore(good)
		two := newSite(hung, session.Options{})
		go func() { time.Sleep(2 * time.Second); close(hung.hung) }()
		if err := two.sm.Keys().Rotate(secret); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the store is back
		v := newVisitor(t, two)
		v.get("/put?k=k&v=v")
		v.with(one).want("/get?k=k", "v true")
	})
}

// A token of Commit opens after Secure was switched on.
func TestATokenOutlivesSecure(t *testing.T) {
	store := session.Dir(t.TempDir())
	sm := session.NewManager(store, session.Options{})
	ctx := sm.Load(t.Context(), "")
	wantCount(t, ctx, "1")
	token, _ := sm.Commit(ctx)
	sm = session.NewManager(store, session.Options{Secure: true})
	wantCount(t, sm.Load(t.Context(), token), "2")
}

// List works on a store that is only read, also if it would tidy up.
func TestListNeedsNoWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := userSite(store, session.Options{Idle: 3 * time.Hour})
		s.handle("/in2", func(r *http.Request) (string, error) { return "", s.sm.Login(r.Context(), "ann", false) })
		newVisitor(t, s).get("/in2")
		time.Sleep(4 * time.Hour)
		newVisitor(t, s).get("/in2")
		store.on(func(op, _ string) error {
			if op == "load" {
				return nil
			}
			return errors.New("read only")
		})
		infos, err := s.sm.List(t.Context(), "ann")
		if err != nil {
			t.Errorf("List = %d sessions, %v", len(infos), err)
		}
	})
}

// After a panic of Import the request writes nothing, so that the next one can import.
func TestAnImportThatPanickedIsMadeAgain(t *testing.T) {
	old := newOldLibrary()
	calls := 0
	s := newSite(session.Dir(t.TempDir()), session.Options{Import: func(r *http.Request) (map[string]any, bool) {
		if calls++; calls == 1 {
			panic("import")
		}
		return old.read(r)
	}})
	s.handle("/twice", func(r *http.Request) (string, error) {
		func() {
			defer func() { recover() }()
			session.Get[string](r.Context(), "user")
		}()
		if err := session.Put(r.Context(), "k", "v"); err == nil {
			t.Error("the request writes")
		}
		return "", nil
	})
	b := oldBrowser(t)
	answered(t, b, s, "/twice", "")
	if got := answered(t, b, s, "/get?k=user", ""); got != "200 OK ann true" {
		t.Errorf("next request: %q", got)
	}
}

// RevokeAll gives up with the first call that hangs, and does not wait for each session.
func TestARevocationWaitsOnceForAHungStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := userSite(store, session.Options{})
		for range 10 {
			newVisitor(t, s).get("/in?user=ann")
		}
		var swaps atomic.Int64
		store.on(func(op, id string) error {
			if swaps.Load() > 0 || op == "swap" && swaps.Add(1) > 1 {
				time.Sleep(5 * time.Second)
				return context.DeadlineExceeded
			}
			return nil
		})
		begin := time.Now()
		if _, err := s.sm.RevokeAll(t.Context(), "ann"); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("RevokeAll = %v", err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("RevokeAll took %v with a Timeout of 5 s", took)
		}
	})
}

// The cookie of a remembered visitor outlives the browser, also after an undone write.
func TestAnUndoKeepsTheCookieOfARememberedVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := userSite(session.Dir(t.TempDir()), session.Options{BrowserCookie: true})
		s := rescue(inner, nil)
		b := newBrowser(t)
		b.do(inner, httptest.NewRequest("GET", "/in?user=ann&remember=1", nil))
		time.Sleep(16 * 24 * time.Hour) // the cookie has to be made anew
		r := httptest.NewRequest("GET", "/plain", nil)
		r.Header.Set("First", "/put?k=k&v=v")
		b.do(s, r)
		if c := b.jar["session"]; c.MaxAge == 0 {
			t.Errorf("the cookie of a remembered visitor ends with the browser: %v", c)
		}
	})
}

// A store that has not given its key is an error for a visitor whose cookie it may open, also beside a good file:
// nobody is logged out.
func TestAGoodFileHidesNoErrorOfTheStore(t *testing.T) {
	store := newSpy(t)
	v := newVisitor(t, newSite(plainStore{store}, session.Options{}))
	v.get("/put?k=k&v=v")
	path := filepath.Join(t.TempDir(), "keys")
	os.WriteFile(path, []byte(strings.Repeat("a", 40)+"\n"), 0o600)
	old := time.Now().Add(-time.Hour)
	os.Chtimes(path, old, old)
	var n atomic.Int64
	store.on(func(op, id string) error {
		if id == "secret" && n.Add(1) == 1 {
			return errors.New("connection refused")
		}
		return nil
	})
	s := newSite(plainStore{store}, session.Options{})
	if err := s.sm.Keys().Follow(path); err != nil {
		t.Fatal(err)
	}
	v = v.with(s)
	if res := v.do("/put?k=x&v=y"); res.StatusCode == http.StatusOK || setsCookie(res) {
		t.Errorf("%s, %v", res.Status, res.Cookies())
	}
	testutil.Until(t, 20*time.Second, "the store is asked again", func() bool { return v.do("/get?k=k").StatusCode == http.StatusOK })
	v.want("/get?k=k", "v true")
}

// A session that an older build has renewed can be read from a store that takes no writes.
func TestAReadNeedsNoWriteAfterAnOldRenewal(t *testing.T) {
	store := newSpy(t)
	s := userSite(store, session.Options{})
	v := newVisitor(t, s)
	v.get("/in?user=ann")
	var key string
	store.on(func(op, id string) error {
		if op == "load" && len(id) == 64 {
			key = id
		}
		return nil
	})
	v.get("/get?k=k")
	rec, err := store.Store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	// what an older build's renewal leaves: the same record, whose "key" is that of another id
	data := strings.Replace(string(rec.Data), `"key":"`+key[:16]+`"`, `"key":"0123456789abcdef"`, 1)
	if data == string(rec.Data) {
		t.Fatal(data)
	}
	if _, err := store.Store.Swap(t.Context(), key, rec.Rev, []byte(data), rec.Expires); err != nil {
		t.Fatal(err)
	}
	store.on(func(op, _ string) error {
		if op != "load" {
			return errors.New("read only")
		}
		return nil
	})
	res := v.do("/get?k=k")
	if res.StatusCode != 200 {
		t.Errorf("a read: %s", res.Status)
	}
}

// While the file is missing, the key of the store seals.
func TestAMissingFileHidesNoKeyOfTheStore(t *testing.T) {
	store := newSpy(t)
	one := newSite(store, session.Options{})
	v := newVisitor(t, one)
	v.get("/put?k=k&v=v")
	s := newSite(store, session.Options{})
	if err := s.sm.Keys().Follow(filepath.Join(t.TempDir(), "keys")); err == nil {
		t.Fatal("Follow found a file")
	}
	testutil.Until(t, 20*time.Second, "the store's key is there", func() bool {
		return len(session.OpensWith(s.sm.Keys())) == 2
	})
	v = newVisitor(t, s)
	v.get("/put?k=k&v=v")
	v.with(one).want("/get?k=k", "v true")
}
