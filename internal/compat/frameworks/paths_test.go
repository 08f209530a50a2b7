package frameworks

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/midair-go/midair/canary"
)

// The stable handler of a rescued request has the path values that came to the router, whatever the canary has set. A router of chi
// sets them when it has found a route.
func TestPathValuesOfTheCanaryAreNotThoseOfStable(t *testing.T) {
	broken := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.SetPathValue("id", "broken")
		r.SetPathValue("new", "broken")
		panic("the canary is broken")
	})
	stable := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "id %q, new %q", r.PathValue("id"), r.PathValue("new"))
	})
	rt := canary.NewRouter(stable, broken, half(&canary.Rescue{}))
	mux := http.NewServeMux()
	mux.Handle("GET /item/{id}", rt)
	programs := map[string]http.Handler{"net/http": mux}
	for _, f := range frameworks {
		programs[f.name] = f.at(io.Discard, func(route) http.Handler { return rt })
	}
	for name, h := range programs {
		get := func(choice string) string {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/item/7", nil)
			r.Header.Set("Canary", choice)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Body.String()
		}
		if got, want := get("true"), get("false"); got != want {
			t.Errorf("%s: after a rescue the path values are %s, want %s", name, got, want)
		}
	}
}
