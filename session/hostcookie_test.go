package session_test

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// Builds of one service: before and after the default name of the cookie was changed for sites with TLS.
func namedSites(t *testing.T) (older, newer *site) {
	store, keys := session.Dir(t.TempDir()), ring(t, "a")
	older = newSite(store, session.Options{Keys: keys, Secure: true, Cookie: "session"})
	return older, newSite(store, session.Options{Keys: keys, Secure: true})
}

// With Secure the cookie has a name that browsers take from no other host, beside the one that builds before know. An explicit
// name stands alone.
func TestASecureCookieIsOfThisHostAlone(t *testing.T) {
	for want, opts := range map[string]session.Options{
		"[__Host-session session]": {Secure: true},
		"[session]":                {},
		"[id]":                     {Secure: true, Cookie: "id"},
		"[__Host-session]":         {Cookie: "__Host-session"},
		"[__Secure-id]":            {Cookie: "__Secure-id"},
	} {
		b := newBrowser(t)
		b.want(newSite(session.Dir(t.TempDir()), opts), "/count", "1")
		var names []string
		for name, c := range b.jar {
			names = append(names, name)
			if want != "[session]" && !c.Secure || c.Path != "/" || c.Domain != "" || !c.HttpOnly {
				t.Errorf("%+v", c)
			}
		}
		slices.Sort(names)
		if got := fmt.Sprint(names); got != want {
			t.Errorf("%+v: %s, want %s", opts, got, want)
		}
	}
}

// An update to the new name logs nobody out, and neither does a rollback: whatever the two builds do in turn with a visitor, the
// counter of the session is exact, the cohort stays, and a logout ends the session for both.
func TestNoChangeOfTheNameLogsAnybodyOut(t *testing.T) {
	const visitors = 40
	for n := range visitors {
		synctest.Test(t, func(t *testing.T) {
			older, newer := namedSites(t)
			random := rand.New(rand.NewPCG(uint64(n), 19))
			b := newBrowser(t)
			count, cohort := 0, ""
			for step := range 60 {
				s := []*site{older, newer}[random.IntN(2)]
				time.Sleep(time.Duration(random.Int64N(int64(3 * time.Second))))
				switch random.IntN(8) {
				case 0:
					b.want(s, "/renew", "")
				case 1:
					b.want(s, "/logout", "")
					count = 0
				case 2:
					w := b.do(s, httptest.NewRequest("GET", "/cohort", nil))
					text := make([]byte, 22)
					w.Body.Read(text)
					if cohort != "" && cohort != string(text) && step > 0 {
						t.Fatalf("step %d: cohort %s, was %s", step, text, cohort)
					}
				default:
					count++
					b.want(s, "/count", fmt.Sprint(count))
				}
				if cohort == "" && len(b.jar) > 0 {
					for _, c := range b.jar {
						cohort = c.Value[:22]
					}
				}
			}
		})
	}
}

// A visitor who has the new cookie cannot be given another session by a host of the same domain, which can only set the former
// name; nor by an old cookie of the visitor.
func TestACookieOfAnotherHostDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, newer := namedSites(t)
		b, attacker := newBrowser(t), newBrowser(t)
		b.want(newer, "/put?k=k&v=first", "")
		old := b.jar["session"].Value
		time.Sleep(5 * time.Second)
		b.want(newer, "/login", "")
		b.want(newer, "/put?k=k&v=mine", "")
		time.Sleep(5 * time.Second)
		attacker.want(newer, "/put?k=k&v=planted", "")
		for _, planted := range []string{old, attacker.jar["session"].Value, attacker.jar["__Host-session"].Value, "x"} {
			b.jar["session"].Value = planted
			b.want(newer, "/get?k=k", "mine true")
		}
	})
}

// A cookie of the former name is replaced by both when the session is used, and not by an answer that needs no session.
func TestTheFormerCookieIsReplaced(t *testing.T) {
	older, newer := namedSites(t)
	b := newBrowser(t)
	b.want(older, "/count", "1")
	b.want(newer, "/plain", "plain")
	if len(b.jar) != 1 {
		t.Errorf("cookies %v", b.jar)
	}
	b.want(newer, "/count", "2")
	if b.jar["__Host-session"] == nil {
		t.Errorf("cookies %v", b.jar)
	}
	if res := b.do(newer, httptest.NewRequest("GET", "/count", nil)); len(res.Cookies()) != 0 {
		t.Errorf("again: %v", res.Cookies())
	}
}
