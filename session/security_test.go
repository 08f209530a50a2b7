package session_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"context"
	"github.com/midair-go/midair/session"
	"sync/atomic"
)

// "A fixated token from before the login never reaches data from after it." Whoever planted the cookie reads what was
// there before, cannot write, and gets no cookie.
func TestAPlantedCookieNeverReachesWhatComesAfterTheLogin(t *testing.T) {
	for name, first := range map[string]string{"WithASession": "/put?k=cart&v=book", "WithoutOne": "/cohort"} {
		t.Run(name, func(t *testing.T) {
			s := dirSite(t)
			attacker := newVisitor(t, s)
			attacker.get(first)
			before := attacker.get("/get?k=cart")
			planted := attacker.value()
			victim := attacker.with(s)
			victim.get("/login")
			victim.want("/get?k=user", "ann true")
			if victim.value() == planted {
				t.Fatal("the login kept the cookie")
			}

			attacker.want("/get?k=user", " false")
			attacker.want("/get?k=cart", before)
			for _, path := range []string{"/put?k=user&v=eve", "/count", "/renew", "/logout"} {
				attacker.wantStatus(path, http.StatusConflict)
			}
			if attacker.value() != planted {
				t.Error("the old cookie was replaced")
			}
			victim.get("/put?k=cart&v=other")
			attacker.want("/get?k=cart", before)
			victim.want("/get?k=user", "ann true")
		})
	}
}

// The old cookie is worth nothing half a minute after the renewal: it is that of a new visitor.
func TestTheSnapshotOfARenewedSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dirSite(t)
		old := newVisitor(t, s)
		old.get("/put?k=cart&v=book")
		victim := old.with(s)
		victim.get("/login")
		time.Sleep(29 * time.Second)
		old.want("/get?k=cart", "book true")
		time.Sleep(2 * time.Second)
		old.want("/get?k=cart", " false")
		cookie := old.value()
		old.get("/put?k=cart&v=mine")
		if old.value() == cookie {
			t.Error("the old id was written")
		}
		old.want("/get?k=cart", "mine true")
		victim.want("/get?k=cart", "book true")
	})
}

// A request that is on its way when its session is renewed cannot write, wherever it was interrupted.
func TestAWriteThatOverlapsARenewalIsRefused(t *testing.T) {
	for _, point := range []string{"load", "swap"} {
		t.Run(point, func(t *testing.T) {
			store := newSpy(t)
			s := newSite(store, session.Options{})
			v := newVisitor(t, s)
			v.get("/put?k=k&v=old")
			slow, g := v.with(s), newGate()
			store.on(func(op, _ string) error {
				if op == point {
					store.on(nil)
					g.pass()
				}
				return nil
			})
			wait := slow.background("/put?k=k&v=late")
			<-g.reached
			v.get("/login")
			close(g.open)
			res := wait()
			if res.StatusCode != http.StatusConflict || setsCookie(res) {
				t.Errorf("%s, cookie %v", res.Status, setsCookie(res))
			}
			v.want("/get?k=k", "old true")
		})
	}
}

// An update that was stored before the renewal is in the renewed session, however close the two were.
func TestARenewalLosesNoUpdate(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	v := newVisitor(t, s)
	v.get("/count")
	other := v.with(s)
	meet := func(op, _ string) error {
		if op == "swap" { // the copy exists, the old session is about to end
			store.on(nil)
			other.get("/count")
		}
		return nil
	}
	store.on(meet)
	v.get("/renew")
	v.want("/count", "3")
}

// If a renewal fails, or its process dies in the middle, the session is what it was.
func TestARenewalThatFailsLeavesTheSession(t *testing.T) {
	for _, at := range []string{"create", "swap"} {
		t.Run(at, func(t *testing.T) {
			store := newSpy(t)
			s := newSite(store, session.Options{})
			v := newVisitor(t, s)
			v.get("/count")
			deleted := 0
			store.on(func(op, _ string) error {
				switch op {
				case at:
					return errors.New("no space")
				case "delete":
					deleted++
				}
				return nil
			})
			res := v.do("/renew")
			if res.StatusCode != http.StatusInternalServerError || setsCookie(res) {
				t.Errorf("%s, cookie %v", res.Status, setsCookie(res))
			}
			if at == "swap" && deleted != 1 {
				t.Errorf("%d copies deleted", deleted)
			}
			store.on(nil)
			v.want("/count", "2")
		})
	}
}

// A session that vanishes from the store in the middle of its renewal does not live on in the copy.
func TestARenewalDoesNotReviveWhatVanishes(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	v := newVisitor(t, s)
	v.get("/put?k=k&v=v")
	var deleted []string
	store.on(func(op, id string) error {
		switch op {
		case "swap":
			return store.Store.Delete(t.Context(), id)
		case "delete":
			deleted = append(deleted, id)
		}
		return nil
	})
	res := v.do("/renew")
	if res.StatusCode != http.StatusConflict || setsCookie(res) || len(deleted) != 1 {
		t.Errorf("%s, cookie %v, %d copies deleted", res.Status, setsCookie(res), len(deleted))
	}
	store.on(nil)
	v.want("/get?k=k", " false")
}

// A destroyed session stays destroyed, whatever a request does that was on its way: nothing is stored, and the cookie
// of the logout stays the one that counts.
func TestNoRequestBringsADestroyedSessionBack(t *testing.T) {
	for _, path := range []string{"/put?k=k&v=late", "/count", "/renew", "/login"} {
		for _, point := range []string{"load", "swap", "create"} {
			t.Run(path+" "+point, func(t *testing.T) { overlapLogout(t, path, point) })
		}
	}
}

func overlapLogout(t *testing.T, path, point string) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	v := newVisitor(t, s)
	v.get("/cohort")
	if point != "create" { // where the session is not there yet
		v.get("/put?k=secret&v=1")
	}
	slow, g := v.with(s), newGate()
	store.on(func(op, _ string) error {
		if op == point {
			store.on(nil)
			g.pass()
		}
		return nil
	})
	wait := slow.background(path)
	<-g.reached
	v.get("/logout")
	close(g.open)
	res := wait()
	if res.StatusCode != http.StatusConflict || setsCookie(res) {
		t.Errorf("%s, cookie %v", res.Status, setsCookie(res))
	}
	for _, key := range []string{"k", "secret", "user", "count"} {
		v.want("/get?k="+key, " false")
		slow.want("/get?k="+key, " false")
	}
}

// A second logout with the same cookie is no error.
func TestALogoutMayComeTwice(t *testing.T) {
	s := dirSite(t)
	v := newVisitor(t, s)
	v.get("/count")
	again := v.with(s)
	v.get("/logout")
	again.get("/logout")
	again.get("/logout")
	v.want("/count", "1")
}

// What the same request puts after Destroy is in a new session.
func TestALogoutMayLeaveAMessage(t *testing.T) {
	s := dirSite(t)
	s.handle("/bye", func(r *http.Request) (string, error) {
		return "", errors.Join(session.Destroy(r.Context()), session.Put(r.Context(), "flash", "bye"))
	})
	v := newVisitor(t, s)
	v.get("/login")
	old := v.with(s)
	v.get("/bye")
	v.want("/get?k=flash", "bye true")
	v.want("/get?k=user", " false")
	old.want("/get?k=flash", " false")
}

// A visitor who has missed the answer to a logout is a new one half a minute later, with the old id left alone.
func TestAMissedLogoutLocksNobodyOut(t *testing.T) {
	onFakeTime(t, func(t *testing.T, s *site, v *visitor) {
		v.get("/count")
		missed := v.with(s)
		v.get("/logout")
		missed.wantStatus("/count", http.StatusConflict)
		time.Sleep(31 * time.Second)
		cookie := missed.value()
		missed.want("/count", "1")
		if missed.value() == cookie {
			t.Error("the destroyed id is in use")
		}
	})
}

// "A token that the client brings and the store does not know is never adopted as an id", but for the hour in which
// the first cookie of a visitor waits for its first write.
func TestAnIdThatTheStoreHasLostIsNotAdopted(t *testing.T) {
	onFakeTime(t, func(t *testing.T, s *site, v *visitor) {
		cohort := v.get("/cohort")
		first := v.value()
		time.Sleep(59 * time.Minute)
		v.with(s).want("/count", "1")
		v.want("/count", "2")
		if v.value() != first {
			t.Fatal("the first cookie was not good for an hour")
		}

		lost := newSite(session.Dir(t.TempDir()), session.Options{Keys: s.sm.Keys()}) // a store that knows nothing
		time.Sleep(2 * time.Minute)
		v = v.with(lost)
		v.want("/count", "1")
		if v.value() == first {
			t.Error("the id was adopted")
		}
		v.want("/count", "2")
		v.want("/cohort", cohort)
	})
}

// A session that is destroyed within that hour cannot be made again with its first cookie, at any time.
func TestATombstoneOutlivesTheFirstCookie(t *testing.T) {
	onFakeTime(t, func(t *testing.T, s *site, v *visitor) {
		v.get("/count")
		first := v.value()
		old := v.with(s)
		v.get("/logout")
		for range 50 {
			time.Sleep(2 * time.Minute)
			again := old.with(s)
			again.want("/count", "1")
			if again.value() == first {
				t.Fatal("the destroyed id is in use")
			}
		}
	})
}

// The cohort is there in the first request and stays through everything that happens to the session.
func TestTheCohortStays(t *testing.T) {
	onFakeTime(t, func(t *testing.T, s *site, v *visitor) {
		cohort := v.get("/cohort")
		if len(cohort) < 20 || cohort == newVisitor(t, s).get("/cohort") {
			t.Fatalf("cohort %q", cohort)
		}
		for _, path := range []string{"/plain", "/count", "/login", "/renew", "/logout", "/count", "/renew"} {
			v.get(path)
			v.want("/cohort", cohort)
		}
		for range 5 { // longer than any cookie lives, with visits in between
			time.Sleep(20 * 24 * time.Hour)
			v.want("/cohort", cohort)
		}
		v.want("/count", "1")
		v.want("/cohort", cohort)
		time.Sleep(31 * 24 * time.Hour)
		if v.get("/cohort") == cohort {
			t.Error("a cookie was accepted after its end")
		}
	})
}

// The cohort can be read outside of the middleware too, from a good cookie.
func TestTheCohortCanBeReadOutside(t *testing.T) {
	s := dirSite(t)
	v := newVisitor(t, s)
	cohort := v.get("/cohort")
	r, _ := http.NewRequest("GET", "/", nil)
	if got := s.sm.Cohort(r); got != "" {
		t.Errorf("without a cookie: %q", got)
	}
	r.Header.Set("Cookie", "session="+v.value())
	if got := s.sm.Cohort(r); got != cohort {
		t.Errorf("%q, want %q", got, cohort)
	}
}

// A forgetfulSwap is a store that swaps and loses the answer, as a database may whose connection breaks.
type forgetfulSwap struct {
	session.Store
	loses atomic.Bool
}

func (f *forgetfulSwap) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	next, err := f.Store.Swap(ctx, id, rev, data, expires)
	if err == nil && f.loses.Load() {
		return 0, errors.New("the answer was lost")
	}
	return next, err
}

// A renewal whose answer from the store is lost logs nobody out: the session was renewed, and the visitor has the new cookie.
func TestARenewalWhoseAnswerIsLostLogsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &forgetfulSwap{Store: session.Dir(t.TempDir())}
		v := newVisitor(t, newSite(store, session.Options{}))
		v.get("/put?k=user&v=ann")
		before := v.value()
		store.loses.Store(true)
		v.get("/renew")
		store.loses.Store(false)
		time.Sleep(time.Minute)
		if v.want("/get?k=user", "ann true"); v.value() == before {
			t.Error("the visitor has the old cookie")
		}
	})
}
