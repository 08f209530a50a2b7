package stateless_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// browser returns a function that asks h for a path, with the cookies that earlier answers have set.
func browser(t *testing.T, h http.Handler) func(path string) (body string, status int) {
	t.Helper()
	var cookies []*http.Cookie
	return func(path string) (string, int) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if set := w.Result().Cookies(); len(set) > 0 {
			cookies = set
		}
		return w.Body.String(), w.Code
	}
}
