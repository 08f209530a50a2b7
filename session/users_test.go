package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// userSite is a site whose visitors log in, by /in?user=...&remember=1, and which says who they are, by /who.
func userSite(store session.Store, opts session.Options) *site {
	s := newSite(store, opts)
	s.handle("/in", func(r *http.Request) (string, error) {
		return "", s.sm.Login(r.Context(), r.FormValue("user"), r.FormValue("remember") != "")
	})
	s.handle("/who", func(r *http.Request) (string, error) { return s.sm.User(r.Context()) })
	s.handle("/list", func(r *http.Request) (string, error) {
		infos, err := s.sm.List(r.Context(), r.FormValue("user"))
		var names []string
		for _, i := range infos {
			var name string
			if _, err := i.Values.Get("device", &name); err != nil {
				return "", err
			}
			if i.Current {
				name += "*"
			}
			names = append(names, name)
		}
		return strings.Join(names, " "), err
	})
	s.handle("/others", func(r *http.Request) (string, error) { return number(s.sm.RevokeOthers(r.Context())) })
	s.handle("/all", func(r *http.Request) (string, error) {
		return number(s.sm.RevokeAll(r.Context(), r.FormValue("user")))
	})
	return s
}

func number(n int, err error) (string, error) { return strconv.Itoa(n), err }

// login is a new visitor who has logged in on a device.
func (s *site) login(t testing.TB, user, device string) *visitor {
	t.Helper()
	v := newVisitor(t, s)
	v.get("/put?k=device&v=" + device)
	v.get("/in?user=" + user)
	return v
}

// twoSites are two processes on one directory, as far as one process can be two.
func twoSites(t testing.TB) (a, b *site) {
	dir := t.TempDir()
	return userSite(session.Dir(dir), session.Options{}), userSite(session.Dir(dir), session.Options{})
}

// A login gives the session another id, keeps its values and the cohort, and is known to every process.
func TestALoginBindsTheSessionToItsUser(t *testing.T) {
	a, b := twoSites(t)
	v := newVisitor(t, a)
	v.get("/put?k=cart&v=book")
	v.want("/who", "")
	before, cohort := v.with(a), v.get("/cohort")
	v.get("/in?user=ann")
	if v.value() == before.value() {
		t.Fatal("the login kept the cookie")
	}
	for _, s := range []*site{a, b} {
		now := v.with(s)
		now.want("/who", "ann")
		now.want("/get?k=cart", "book true")
		now.want("/cohort", cohort)
	}
	before.want("/who", "")
	before.want("/get?k=cart", "book true")
	before.wantStatus("/put?k=cart&v=other", http.StatusConflict)
	v.get("/logout")
	v.want("/who", "")
	v.want("/list?user=ann", "")
}

// A visitor without a session gets one by logging in, which is in the store at once.
func TestALoginMakesASession(t *testing.T) {
	a, b := twoSites(t)
	v := newVisitor(t, a)
	v.get("/in?user=ann")
	v.with(b).want("/who", "ann")
	infos, err := b.sm.List(t.Context(), "ann")
	if err != nil || len(infos) != 1 || infos[0].Current || infos[0].ID == "" || time.Since(infos[0].Started) > time.Minute {
		t.Fatalf("List = %+v, %v", infos, err)
	}
	if life := time.Until(infos[0].Expires); life < 23*time.Hour || life > 24*time.Hour {
		t.Errorf("it expires in %v", life)
	}
}

// Login says what is wrong, and a wrong login changes nothing.
func TestALoginThatCannotBeIsAnError(t *testing.T) {
	a, _ := twoSites(t)
	v := a.login(t, "ann", "phone")
	cookie := v.value()
	v.wantStatus("/in?user=", http.StatusInternalServerError)
	if v.value() != cookie {
		t.Error("the cookie was changed")
	}
	v.want("/who", "ann")
	if err := a.sm.Login(t.Context(), "ann", false); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("outside of the Middleware: %v", err)
	}
	if _, err := a.sm.User(t.Context()); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("outside of the Middleware: %v", err)
	}
	a.mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := a.sm.Login(r.Context(), "bob", false); !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("after the header: %v", err)
		}
	})
	v.get("/late")
	v.want("/who", "ann")
	v.want("/list?user=bob", "")
}

// A planted cookie never becomes that of the user: neither the one of a session nor one that was never stored.
func TestAPlantedCookieIsNeverLoggedIn(t *testing.T) {
	for _, first := range []string{"/put?k=device&v=eve", "/cohort"} {
		a, b := twoSites(t)
		attacker := newVisitor(t, a)
		attacker.get(first)
		victim := attacker.with(a)
		victim.get("/in?user=ann")
		for _, s := range []*site{a, b} {
			eve := attacker.with(s)
			eve.want("/who", "")
			for _, path := range []string{"/count", "/renew", "/in?user=eve", "/logout"} {
				eve.wantStatus(path, http.StatusConflict)
			}
		}
		victim.want("/who", "ann")
	}
}

// The list of a user has each live session once, the latest login first, and says which one asks.
func TestTheListIsThatOfTheUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := twoSites(t)
		var devices []*visitor
		for _, name := range []string{"phone", "laptop", "tv"} {
			devices = append(devices, a.login(t, "ann", name))
			time.Sleep(time.Minute)
		}
		a.login(t, "bob", "desk")
		devices[1].with(b).want("/list?user=ann", "tv laptop* phone")
		devices[0].get("/renew")
		devices[0].want("/list?user=ann", "tv laptop phone*")
		devices[2].get("/logout")
		devices[1].with(b).want("/list?user=ann", "laptop* phone")
		devices[1].get("/in?user=ann") // again
		devices[1].want("/list?user=ann", "laptop* phone")
		time.Sleep(time.Minute)
		devices[0].get("/in?user=bob") // the session moves
		devices[0].want("/list?user=ann", "laptop")
		devices[0].want("/list?user=bob", "phone* desk")
		devices[0].want("/list?user=nobody", "")
	})
}

// Revoke ends one session by its id, which a renewal does not change, and never one of another user.
func TestRevokeEndsOneSession(t *testing.T) {
	a, b := twoSites(t)
	phone, laptop := a.login(t, "ann", "phone"), a.login(t, "ann", "laptop")
	infos, err := b.sm.List(t.Context(), "ann")
	if err != nil || len(infos) != 2 {
		t.Fatalf("List = %v, %v", infos, err)
	}
	id := infos[0].ID
	if name := device(t, infos[0]); name == "phone" {
		id = infos[1].ID
	}
	laptop.get("/renew")
	if err := b.sm.Revoke(t.Context(), "bob", id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Revoke for another user = %v", err)
	}
	laptop.want("/who", "ann")
	if err := b.sm.Revoke(t.Context(), "ann", id); err != nil {
		t.Fatal(err)
	}
	wantRevoked(t, laptop, a, b)
	phone.want("/who", "ann")
	phone.want("/list?user=ann", "phone*")
	if err := b.sm.Revoke(t.Context(), "ann", id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("second Revoke = %v", err)
	}
}

func device(t *testing.T, i session.Info) (name string) {
	t.Helper()
	if _, err := i.Values.Get("device", &name); err != nil {
		t.Error(err)
	}
	return name
}

// wantRevoked checks that a cookie opens nothing, on each of the sites.
func wantRevoked(t *testing.T, v *visitor, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		old := v.with(s)
		old.want("/who", "")
		old.want("/get?k=device", " false")
		for _, path := range []string{"/count", "/renew"} {
			old.wantStatus(path, http.StatusConflict)
		}
	}
}

// RevokeAll ends what there is, and RevokeOthers all but the session that asks. The user can log in again at once, with the
// cookie of the revoked session too.
func TestRevokeAllAndRevokeOthers(t *testing.T) {
	a, b := twoSites(t)
	phone, laptop, tv := a.login(t, "ann", "phone"), a.login(t, "ann", "laptop"), a.login(t, "ann", "tv")
	bob := a.login(t, "bob", "desk")
	phone.with(b).want("/others", "2")
	wantRevoked(t, laptop, a, b)
	wantRevoked(t, tv, a, b)
	phone.want("/who", "ann")
	phone.want("/others", "0")
	phone.want("/list?user=ann", "phone*")
	laptop.get("/in?user=ann")
	bob.with(b).want("/all?user=ann", "2")
	wantRevoked(t, phone, a, b)
	wantRevoked(t, laptop, a, b)
	if n := a.sm.Status().Revoked + b.sm.Status().Revoked; n != 4 {
		t.Errorf("%d sessions were counted as revoked, want 4", n)
	}
	bob.want("/all?user=ann", "0")
	bob.want("/who", "bob")
	phone.get("/in?user=ann")
	phone.want("/who", "ann")
	phone.want("/list?user=ann", "*") // nothing was left of the session from before
	laptop.wantStatus("/others", http.StatusConflict)
	newVisitor(t, a).wantStatus("/others", http.StatusInternalServerError)
}

// A request that revokes its own session sees that at once.
func TestARequestThatRevokesItself(t *testing.T) {
	a, _ := twoSites(t)
	a.handle("/self", func(r *http.Request) (string, error) {
		if user, err := a.sm.User(r.Context()); user != "ann" || err != nil {
			t.Errorf("before: %q, %v", user, err)
		}
		if n, err := a.sm.RevokeAll(r.Context(), "ann"); n != 1 || err != nil {
			t.Errorf("RevokeAll = %d, %v", n, err)
		}
		if err := session.Put(r.Context(), "k", 1); !errors.Is(err, session.ErrGone) {
			t.Errorf("Put = %v", err)
		}
		return a.sm.User(r.Context())
	})
	a.login(t, "ann", "phone").want("/self", "")
}

// The session that a renewal has left can be read for a moment, and not if its user's sessions were revoked.
func TestARevocationEndsTheSnapshotOfARenewal(t *testing.T) {
	a, b := twoSites(t)
	v := a.login(t, "ann", "phone")
	old := v.with(b)
	v.get("/renew")
	old.want("/who", "ann")
	old.want("/get?k=device", "phone true")
	v.with(b).want("/all?user=ann", "1")
	old.want("/who", "")
	old.want("/get?k=device", " false")
}

// A request that is on its way when its session is revoked cannot write or renew, wherever it was interrupted. A login that was
// interrupted fails, or its session is listed.
func TestNothingBringsARevokedSessionBack(t *testing.T) {
	for _, path := range []string{"/count", "/renew", "/logout", "/in?user=ann"} {
		for _, first := range []string{"ann", ""} {
			if first == "" && path != "/in?user=ann" {
				continue
			}
			steps := 0
			for interrupted(t, first, path, steps+1) {
				steps++
			}
			if steps < 2 {
				t.Errorf("%s takes %d steps", path, steps)
			}
			t.Logf("%s of %q was interrupted at each of %d steps", path, first, steps)
		}
	}
}

// interrupted revokes the sessions of a user before a step of a request, and reports whether the request has so many.
func interrupted(t *testing.T, first, path string, step int) bool {
	store := newSpy(t)
	s := userSite(store, session.Options{})
	v := newVisitor(t, s)
	if first == "" {
		v.get("/put?k=device&v=phone")
		s.login(t, "ann", "laptop")
	} else {
		v = s.login(t, first, "phone")
	}
	slow, g, n := v.with(s), newGate(), 0
	store.on(func(string, string) error {
		if n++; n == step {
			store.on(nil)
			g.pass()
		}
		return nil
	})
	answered := make(chan *http.Response, 1)
	go func() { answered <- slow.do(path) }()
	select {
	case <-g.reached:
	case <-answered:
		return false
	}
	if _, err := s.sm.RevokeAll(t.Context(), "ann"); err != nil {
		t.Error(err)
	}
	close(g.open)
	res := <-answered
	infos, err := s.sm.List(t.Context(), "ann")
	before, user := v.with(s).get("/who"), slow.with(s).get("/who")
	if before != "" || path != "/in?user=ann" && user != "" || (user == "ann") != (len(infos) == 1) || err != nil {
		t.Errorf("%s, step %d: %s, user %q, before %q, listed %v, %v", path, step, res.Status, user, before, infos, err)
	}
	if path == "/in?user=ann" && (res.StatusCode == http.StatusOK) != setsCookie(res) {
		t.Errorf("%s, step %d: %s, cookie %v", path, step, res.Status, setsCookie(res))
	}
	return true
}

// A session that was renewed by a version without users is found when it is used next, and then listed, or ended if its login was
// revoked meanwhile.
func TestASessionThatAnOldVersionRenewed(t *testing.T) {
	for _, revoked := range []string{"", "all", "one", "others"} {
		t.Run(revoked, func(t *testing.T) {
			store := newSpy(t)
			s := userSite(store, session.Options{})
			v, other := s.login(t, "ann", "phone"), s.login(t, "ann", "laptop")
			infos, err := s.sm.List(t.Context(), "ann")
			if err != nil {
				t.Fatal(err)
			}
			id := infos[0].ID
			if device(t, infos[0]) == "laptop" {
				id = infos[1].ID
			}
			renewAsOld(t, store, v)
			switch revoked {
			case "all":
				other.want("/all?user=ann", "1")
			case "others":
				other.want("/others", "0")
			case "one":
				if err := s.sm.Revoke(t.Context(), "ann", id); !errors.Is(err, session.ErrNotFound) {
					t.Error(err)
				}
			}
			if revoked != "" {
				wantRevoked(t, v, s)
				return
			}
			other.want("/list?user=ann", "laptop*")
			v.want("/who", "ann")
			other.want("/list?user=ann", "laptop* phone")
			before := store.calls.Load()
			v.want("/who", "ann")
			if n := store.calls.Load() - before; n != 1 {
				t.Errorf("%d calls of the store for a listed session", n)
			}
			other.want("/others", "1")
			wantRevoked(t, v, s)
		})
	}
}

// renewAsOld does what Renew of a version without users does: members that it does not know are copied.
func renewAsOld(t *testing.T, store *spy, v *visitor) {
	t.Helper()
	var key, next string
	store.on(func(op, id string) error {
		switch {
		case strings.HasPrefix(id, "user "):
			return nil
		case op == "create":
			next = id
		case op == "swap":
			key = id
		}
		return nil
	})
	v.get("/renew") // what it does to the list is taken back
	store.on(nil)
	edit(t, store, userID("ann"), func(m map[string]any) {
		sessions := m["sessions"].(map[string]any)
		sessions[key] = sessions[next]
		delete(sessions, next)
	})
	edit(t, store, next, func(m map[string]any) { m["login"].(map[string]any)["key"] = key[:16] })
}

// edit changes a record.
func edit(t *testing.T, store session.Store, id string, fn func(map[string]any)) {
	t.Helper()
	rec, err := store.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(string(rec.Data)))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	fn(m)
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Swap(t.Context(), id, rec.Rev, data, rec.Expires); err != nil {
		t.Fatal(err)
	}
}

// What a newer version has added to the list of a user stays, and a newer format is refused.
func TestTheListKeepsWhatItDoesNotKnow(t *testing.T) {
	store := newSpy(t)
	s := userSite(store, session.Options{})
	v := s.login(t, "ann", "phone")
	edit(t, store, userID("ann"), func(m map[string]any) {
		m["new"] = "kept"
		for _, e := range m["sessions"].(map[string]any) {
			e.(map[string]any)["place"] = "Rome"
		}
	})
	s.login(t, "ann", "laptop")
	rec, err := store.Load(t.Context(), userID("ann"))
	if err != nil || !strings.Contains(string(rec.Data), `"new":"kept"`) || !strings.Contains(string(rec.Data), `"place":"Rome"`) {
		t.Errorf("%s, %v", rec.Data, err)
	}
	edit(t, store, userID("ann"), func(m map[string]any) { m["format"] = 2 })
	if _, err := s.sm.List(t.Context(), "ann"); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("List = %v", err)
	}
	newVisitor(t, s).wantStatus("/in?user=ann", http.StatusInternalServerError)
	v.want("/who", "ann")
}

// The list outlives the sessions on it, drops those that have expired, and an unused user leaves nothing.
func TestTheListEndsWithItsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := userSite(store, session.Options{})
		v := s.login(t, "ann", "phone")
		s.login(t, "ann", "laptop")
		for range 60 { // it lives by being used
			time.Sleep(12 * time.Hour)
			if v.get("/who") != "ann" {
				break
			}
			if n := len(sessionsOf(t, store, "ann")); n == 0 {
				t.Fatal("a live session is not listed")
			}
		}
		v.want("/who", "")
		if infos, err := s.sm.List(t.Context(), "ann"); err != nil || len(infos) > 0 {
			t.Errorf("List = %v, %v", infos, err)
		}
		if n := len(sessionsOf(t, store, "ann")); n != 0 {
			t.Errorf("%d expired sessions are listed", n)
		}
		time.Sleep(100 * 24 * time.Hour)
		if _, err := store.Load(t.Context(), userID("ann")); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the list is there: %v", err)
		}
	})
}

// sessionsOf are the entries in the record of a user.
func sessionsOf(t *testing.T, store session.Store, user string) map[string]any {
	t.Helper()
	rec, err := store.Load(t.Context(), userID(user))
	if errors.Is(err, session.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Sessions map[string]any }
	if err := json.Unmarshal(rec.Data, &m); err != nil {
		t.Fatal(err)
	}
	return m.Sessions
}

// If the list of a user was lost, sessions get back on it while they are used.
func TestALostListGrowsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := userSite(store, session.Options{})
		v := s.login(t, "ann", "phone")
		if err := store.Delete(t.Context(), userID("ann")); err != nil {
			t.Fatal(err)
		}
		v.want("/list?user=ann", "")
		time.Sleep(2 * time.Hour)
		v.want("/who", "ann")
		v.want("/list?user=ann", "phone*")
	})
}

// Logins that expire do not make the list grow without end, and no user has more than 1,000 sessions.
func TestTheListIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := userSite(store, session.Options{Idle: time.Hour})
		most := 0
		for range 300 {
			s.login(t, "ann", "phone")
			time.Sleep(time.Hour)
			most = max(most, len(sessionsOf(t, store, "ann")))
		}
		if most > 64 {
			t.Errorf("%d sessions listed, and one is live", most)
		}
		first := s.login(t, "bob", "first")
		time.Sleep(time.Minute)
		var keep *visitor
		edit(t, store, userID("bob"), func(m map[string]any) {
			sessions := m["sessions"].(map[string]any)
			for i := range 999 {
				sessions[fmt.Sprintf("%064d", i)] = map[string]any{
					"login": fmt.Sprint("login", i), "at": time.Now().UnixMilli(), "added": time.Now().UnixMilli(),
				}
			}
		})
		keep = s.login(t, "bob", "thousandth")
		if n := len(sessionsOf(t, store, "bob")); n != 1000 {
			t.Errorf("%d sessions are listed", n)
		}
		first.want("/who", "")
		keep.want("/who", "bob")
	})
}

// userID is the id of the record that lists the sessions of a user.
func userID(user string) string { return session.UserID(user) }

// A login or a revocation of a client who has gone away is finished or not begun.
func TestAClientThatGoesAwayLeavesNoHalfLogin(t *testing.T) {
	for step := 1; ; step++ {
		store := newSpy(t)
		s := userSite(store, session.Options{})
		v := newVisitor(t, s)
		v.get("/put?k=device&v=phone")
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		store.on(func(string, string) error {
			if n++; n == step {
				cancel()
			}
			return nil
		})
		r := httptest.NewRequest("GET", "/in?user=ann", nil).WithContext(ctx)
		r.Header.Set("Cookie", "session="+v.value())
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		store.on(nil)
		cancel()
		if n < step {
			return
		}
		live, listed := 0, sessionsOf(t, store, "ann")
		for key := range listed {
			if rec, err := store.Load(t.Context(), key); err == nil && strings.Contains(string(rec.Data), `"user":"ann"`) {
				live++
			}
		}
		if w.Code != http.StatusOK && live > 0 {
			t.Errorf("step %d: %d, and %d sessions", step, w.Code, live)
		}
	}
}
