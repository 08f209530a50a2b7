package admin

import (
	"net/http"
	"net/http/httptest"
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
