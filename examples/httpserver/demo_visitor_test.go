package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// visit lets one visitor come to a site that answers so, and returns what the visitor says about it.
func visit(t *testing.T, count, cart func(n int) string) string {
	t.Helper()
	var mu sync.Mutex
	counted, routed, strangers := 0, 0, 0
	mux := http.NewServeMux()
	answer := func(n *int, f func(int) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if *n++; r.Header.Get("Cookie") == "" {
				strangers++
				http.SetCookie(w, &http.Cookie{Name: "session", Value: "x", Path: "/"})
			}
			fmt.Fprintln(w, f(*n))
		}
	}
	mux.Handle("/count", answer(&counted, count))
	mux.Handle("/cart", answer(&routed, cart))
	mux.HandleFunc("/visitor", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"count": %s}`, count(counted)) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	vs := startVisitors(srv.Listener.Addr().String(), 1)
	for range moments {
		testutil.Until(t, patience, "a round", vs.since())
		vs.mark()
	}
	counts := vs.stop()
	if strangers != 1 {
		t.Errorf("the cookie was sent back after %d requests", strangers)
	}
	v := vs.all[0]
	v.marks = []string{"stable", "canary", "canary", "canary"} // the routes of these sites do not follow the demo
	return strings.Join(v.verdict(counts[0]), "; ")
}

// A visitor notices a count that is not its own and a way back to the old cart.
func TestVisitorNotices(t *testing.T) {
	right := func(n int) string { return fmt.Sprint(n) }
	late := func(a, b string) func(int) string {
		return func(n int) string {
			if n < 3 {
				return a
			}
			return b
		}
	}
	for _, c := range []struct {
		name        string
		count, cart func(int) string
		want        string
	}{
		{"all is well", right, late("stable", "canary"), ""},
		{"a count is lost", func(n int) string { return fmt.Sprint(max(1, n-1)) }, late("canary", "canary"), "the count is 1 instead of 2"},
		{"it goes back", right, late("canary", "stable"), "it went from canary back to stable"},
	} {
		if got := visit(t, c.count, c.cart); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The demo fails if a visitor changed sides over the upgrades, or if the service counts otherwise at the end.
func TestVisitorTable(t *testing.T) {
	marks := func(sides ...string) *visitor { return &visitor{counted: 1200, marks: sides} }
	var b bytes.Buffer
	failed := visitorTable(screen{w: &b}, []*visitor{
		marks("stable", "canary", "canary", "canary"),
		marks("stable", "canary", "stable", "canary"),
		marks("stable"),
	}, []int{1200, 1199, 1200})
	want := "" +
		"\nvisitor   at 0 %   at 50 %   5 upgrades later   at 100 %      answers    count\n" +
		"1         stable   canary    canary             canary          1,200    1,200\n" +
		"2         stable   canary    stable             canary          1,200    1,199\n" +
		"3         stable                                                1,200    1,200\n"
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if want := []string{
		"visitor 2: the count is 1199 at the end, after 1200 answers",
		"visitor 2: it was on the sides [stable canary stable canary]",
		"visitor 3: it was on the sides [stable]",
	}; !slices.Equal(failed, want) {
		t.Errorf("%q", failed)
	}
}
