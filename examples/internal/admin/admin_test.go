package admin

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Over TCP the name that was asked for has to be one of this machine: otherwise a web page whose own name resolves to
// this address could do what it likes.
func TestAdminHost(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	for _, c := range []struct {
		admin, host string
		status      int
	}{
		{"127.0.0.1:8081", "127.0.0.1:8081", 200},
		{"127.0.0.1:8081", "localhost:8081", 200},
		{"127.0.0.1:8081", "LOCALHOST", 200},
		{"127.0.0.1:8081", "[::1]:8081", 200},
		{"127.0.0.1:8081", "127.0.0.2", 200},
		{"127.0.0.1:8081", "rebound.example:8081", 403},
		{"127.0.0.1:8081", "localhost.rebound.example", 403},
		{"127.0.0.1:8081", "192.0.2.1:8081", 403},
		{"127.0.0.1:8081", "", 403},
		{"ops.example:8081", "ops.example:8081", 200},
		{"ops.example:8081", "OPS.example", 200},
		{"ops.example:8081", "web.example", 403},
		{"192.0.2.1:8081", "192.0.2.1:8081", 200},
		{":8081", "localhost:8081", 200},
		{":8081", "rebound.example:8081", 403},
		{":8081", "", 403},
	} {
		s := &Server{addr: "127.0.0.1:8081", name: hostname(c.admin)}
		for _, method := range []string{"GET", "POST"} {
			req, rec := httptest.NewRequest(method, "/upgrade", nil), httptest.NewRecorder()
			req.Host = c.host
			if s.guard(ok).ServeHTTP(rec, req); rec.Code != c.status {
				t.Errorf("-admin %s, %s with Host %q: status %d, want %d", c.admin, method, c.host, rec.Code, c.status)
			}
		}
	}
}

// An action gets the parameters, always with a reason, and its error is the answer.
func TestAction(t *testing.T) {
	for _, c := range []struct {
		query, reason string
		err           error
		status        int
		answer        string
	}{
		{"flag=a&reason=slow", "slow", nil, 200, `"reason": ""`},
		{"flag=a", "asked for over the admin interface", nil, 200, `"reason": ""`},
		{"flag=a&reason=", "asked for over the admin interface", errors.New("disk full"), 500, `"reason": "disk full"`},
		{"flag=a", "asked for over the admin interface", &Refusal{400, Answer{Reason: "no such flag"}}, 400, `"reason": "no such flag"`},
	} {
		rec := httptest.NewRecorder()
		act(rec, httptest.NewRequest("POST", "/override?"+c.query, nil), func(q url.Values) error {
			if q.Get("flag") != "a" || q.Get("reason") != c.reason {
				t.Errorf("%s: the action gets %v", c.query, q)
			}
			return c.err
		})
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.answer) {
			t.Errorf("%s, error %v: status %d: %s", c.query, c.err, rec.Code, rec.Body)
		}
	}
}
