package main

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// get asks for a path with the visitor's cookies, and gives it those of the answer.
func get(t *testing.T, h http.Handler, visitor http.CookieJar, path string) string {
	t.Helper()
	r := httptest.NewRequest("GET", "http://shop.test"+path, nil)
	for _, c := range visitor.Cookies(r.URL) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	visitor.SetCookies(r.URL, w.Result().Cookies())
	if w.Code != http.StatusOK {
		t.Fatalf("%s: status %d", path, w.Code)
	}
	return strings.TrimSpace(w.Body.String())
}

func newVisitor(t *testing.T) http.CookieJar {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return jar
}

// Of the visitors who come without a cookie a share gets the new cart, and each of them finds it again.
func TestVisitorsAreSharedOutAndKept(t *testing.T) {
	h := routes(0.5)
	sides := map[string]int{}
	for range 100 { // all on one side: once in 2^99 runs
		v := newVisitor(t)
		first := get(t, h, v, "/cart")
		sides[first]++
		for range 20 {
			if again := get(t, h, v, "/cart"); again != first {
				t.Fatalf("%s, and before %s", again, first)
			}
		}
	}
	if sides["old cart"]+sides["new cart"] != 100 || sides["old cart"] == 0 || sides["new cart"] == 0 {
		t.Errorf("%v", sides)
	}
}

// At 0 everybody gets the old cart, at 1 the new one, and the router touches no other route.
func TestEnds(t *testing.T) {
	for weight, want := range map[float64]string{0: "old cart", 1: "new cart"} {
		h := routes(weight)
		if got := get(t, h, newVisitor(t), "/cart"); got != want {
			t.Errorf("at %v: %s, want %s", weight, got, want)
		}
		if got := get(t, h, newVisitor(t), "/"); got != "hello" {
			t.Errorf("/: %s", got)
		}
	}
}
