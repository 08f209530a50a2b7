package session_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/midair-go/midair/session"
)

// "A tampered cookie = a new visitor, never an error page": each change of each character, cuts and additions.
func TestATamperedCookieIsANewVisitor(t *testing.T) {
	s := dirSite(t)
	v := newVisitor(t, s)
	v.want("/count", "1")
	cohort, good := v.get("/cohort"), v.value()
	bad := []string{"", ".", "x", good[:len(good)-1], good + "A", good + ".", strings.Replace(good, ".", "", 1), good[23:]}
	for i := range good {
		c := byte('A')
		if good[i] == c {
			c = 'B'
		}
		bad = append(bad, good[:i]+string(c)+good[i+1:])
	}
	for _, value := range bad {
		v.mu.Lock()
		v.cookie = value
		v.mu.Unlock()
		if got := v.get("/cohort"); got == cohort || got == "" {
			t.Errorf("%q has cohort %q", value, got)
		}
		if v.value() == value {
			t.Errorf("%q was not replaced", value)
		}
		v.want("/count", "1")
	}
}

// A cookie is bound to its name: that of one manager is no good for another with the same keys.
func TestACookieIsBoundToItsName(t *testing.T) {
	keys := ring(t, "a")
	s := newSite(session.Dir(t.TempDir()), session.Options{Keys: keys})
	v := newVisitor(t, s)
	v.get("/cohort")
	if session.Open(session.NewManager(session.Dir(t.TempDir()), session.Options{Keys: keys, Cookie: "admin"}), v.value()) {
		t.Error("the cookie of another name was taken")
	}
}

// The cohort of one visitor does not go with the session of another.
func TestACohortIsBoundToItsSession(t *testing.T) {
	s := dirSite(t)
	a, b := newVisitor(t, s), newVisitor(t, s)
	a.get("/cohort")
	b.get("/cohort")
	if session.Open(s.sm, a.value()[:22]+b.value()[22:]) {
		t.Error("two cookies were mixed")
	}
}

// Of several cookies with the name, as a neighbour domain can cause them, the one that opens is taken.
func TestTheCookieIsFoundAmongOthers(t *testing.T) {
	s := dirSite(t)
	v := newVisitor(t, s)
	cohort, good := v.get("/cohort"), "session="+v.value()
	for _, lines := range [][]string{
		{good}, {"a=b; " + good}, {"a=b;" + good + ";c=d"}, {"session=; session=x;" + good}, {"session=x", good},
		{`session="` + v.value() + `"`}, {"Session=x; session", good}, {" " + good + " "},
	} {
		r := httptest.NewRequest("GET", "/cohort", nil)
		r.Header["Cookie"] = lines
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Body.String() != cohort || setsCookie(w.Result()) {
			t.Errorf("%q: %s", lines, w.Body)
		}
	}
	flood := httptest.NewRequest("GET", "/cohort", nil)
	flood.Header.Set("Cookie", strings.Repeat("session=x; ", 1000)+good)
	if got := s.sm.Cohort(flood); got != "" {
		t.Error("a thousand cookies were tried")
	}
}

// Whatever the header holds, there is an answer, and nothing that was not made here is accepted.
func FuzzCookie(f *testing.F) {
	s := newSite(session.Dir(f.TempDir()), session.Options{Keys: ring(f, "a")})
	v := newVisitor(f, s)
	cohort, good := v.get("/cohort"), v.value()
	for _, seed := range []string{"", "session=", "session=" + good, "session=.;;=;", "session=" + good[:50]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r := httptest.NewRequest("GET", "/cohort", nil)
		r.Header["Cookie"] = []string{line}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		body := w.Body.String()
		if w.Code != http.StatusOK || body == "" {
			t.Fatalf("%d %q", w.Code, body)
		}
		if body == cohort && !strings.Contains(line, good) {
			t.Fatalf("%q was accepted", line)
		}
	})
}
