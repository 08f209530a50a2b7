package steps

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A plan is read and written in the same way; what makes no sense is refused by name.
func TestPlan(t *testing.T) {
	var p Plan
	const text = "5%:10s,25%:1m0s,100%:500ms"
	if err := p.Set(text); err != nil || p.String() != text || len(p) != 3 || p[0] != (Step{0.05, 10 * time.Second}) {
		t.Errorf("%v, %v", p, err)
	}
	for _, bad := range []string{"", "5", "5%", "5:10s", "5%:soon", "x%:1s", "0%:1s", "101%:1s", "-1%:1s", "5%:0s", "5%:-1s", "NaN%:1s", "5%:1s,"} {
		if err := p.Set(bad); err == nil || !strings.Contains(err.Error(), "step ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The new process is refused for more errors or for being slower, not for a few requests, and not for what the old one
// does as well.
func TestVerdict(t *testing.T) {
	ms := func(n int64) int64 { return n * 1000 }
	for _, c := range []struct {
		name           string
		stable, canary Figures
		refused        string
	}{
		{"nothing", Figures{}, Figures{}, ""},
		{"good", Figures{1000, 0, ms(1000)}, Figures{50, 0, ms(50)}, ""},
		{"too few", Figures{1000, 0, ms(1000)}, Figures{enough - 1, enough - 1, ms(9999)}, ""},
		{"errors", Figures{1000, 0, ms(1000)}, Figures{50, 10, ms(50)}, "20 % errors in 50 requests"},
		{"as bad as before", Figures{1000, 200, ms(1000)}, Figures{50, 10, ms(50)}, ""},
		{"slow", Figures{1000, 0, ms(1000)}, Figures{50, 0, ms(50 * 60)}, "takes 60ms on average"},
		{"a little slower", Figures{1000, 0, ms(1000)}, Figures{50, 0, ms(50 * 40)}, ""},
	} {
		err := verdict(c.stable, c.canary)
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		}
	}
}

// A meter counts answers, errors and panics, and leaves probes and connections that are taken over alone.
func TestMeterCounts(t *testing.T) {
	m := new(Meter)
	h := m.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/error":
			w.WriteHeader(503)
		case "/panic":
			panic("no")
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("the writer cannot flush: %v", err)
		}
	}))
	for _, path := range []string{"/", "/error", "/panic", "/healthz", "/ws"} {
		req := httptest.NewRequest("GET", path, nil)
		if path == "/ws" {
			req.Header.Set("Upgrade", "websocket")
		}
		func() {
			defer func() { _ = recover() }()
			h.ServeHTTP(httptest.NewRecorder(), req)
		}()
	}
	if f := m.Figures(); f.Requests != 3 || f.Errors != 2 {
		t.Errorf("%+v", f)
	}
}
