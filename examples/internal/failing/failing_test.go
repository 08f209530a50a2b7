package failing

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A mode is read as its examples are written, and what makes no sense is refused by name.
func TestModesAreRead(t *testing.T) {
	for name := range strings.SplitSeq(Names(), ", ") {
		var m Mode
		if err := m.Set(name); err != nil || m.String() != strings.Split(name, "=")[0] {
			t.Errorf("%q: %q, %v", name, m.String(), err)
		}
		if err := m.Set(""); err != nil || m.String() != "" {
			t.Errorf("%q cannot be taken back: %v", name, err)
		}
	}
	for _, bad := range []string{"nonsense", "check=1", "errors", "errors=2", "errors=NaN", "panic=-1", "cart-errors=2", "cart-crash=2", "leak-memory=0", "leak-memory=x", "slow=fast", "after-commit=-1s"} {
		var m Mode
		if err := m.Set(bad); err == nil || !strings.Contains(err.Error(), strings.Split(bad, "=")[0]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A request meets what the mode says, and nothing in a good release.
func TestRequestsMeetTheMode(t *testing.T) {
	for text, want := range map[string]string{
		"": "good", "errors=1": "error", "errors=0": "good", "panic=1": "panic", "panic=0": "good", "check": "good", "leak-fd": "good",
		"cart-errors=1": "good", "leak-memory=1": "good",
	} {
		var m Mode
		if err := m.Set(text); err != nil {
			t.Fatal(err)
		}
		if got := meet(t.Context(), &m); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var m Mode
		if err := m.Set("slow=200ms"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if got := meet(t.Context(), &m); got != "good" || time.Since(began) != 200*time.Millisecond {
			t.Errorf("%s after %v", got, time.Since(began))
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if meet(gone, &m); time.Since(began) != 200*time.Millisecond {
			t.Error("it waits for a client that has gone")
		}
	})
}

// Only the new cart meets what is wrong with the cart.
func TestCartMeetsItsMode(t *testing.T) {
	for text, want := range map[string]int{"": 200, "cart-errors=1": 500, "cart-errors=0": 200, "errors=1": 200} {
		var m Mode
		if err := m.Set(text); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		m.Cart(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, httptest.NewRequest("GET", "/cart", nil))
		if w.Code != want {
			t.Errorf("%q: %d, want %d", text, w.Code, want)
		}
	}
}

func meet(ctx context.Context, m *Mode) (what string) {
	defer func() {
		if recover() != nil {
			what = "panic"
		}
	}()
	if m.Request(ctx) != nil {
		return "error"
	}
	return "good"
}
