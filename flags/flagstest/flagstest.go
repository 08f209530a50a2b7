// Package flagstest gives tests the flags that they need: without files, without globals, and in parallel.
//
//	func TestNewCart(t *testing.T) {
//		t.Parallel()
//		ff := flagstest.New(t, map[string]any{"new-cart": true, "limit": 5})
//		…
//	}
//
// A program that opens its Flags once, for all tests, gets other values for one context:
//
//	ctx := flagstest.With(t, t.Context(), shop.Flags, map[string]any{"new-cart": true})
//	shop.Handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/cart", nil))
//
// Values are booleans, strings, numbers, and everything that is an object in JSON. All users get the same value.
package flagstest

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/flags/internal/moment"
)

// New returns Flags with the values, by key. They are closed at the end of the test. A value that JSON does not know fails the
// test.
func New(t testing.TB, values map[string]any) *flags.Flags {
	t.Helper()
	file := map[string]any{}
	for key, x := range values {
		if _, err := flagd.Encode(key, x); err != nil {
			t.Fatalf("flagstest: flag %s: %v", key, err)
		}
		file[key] = map[string]any{"state": "ENABLED", "variants": map[string]any{"value": x}, "defaultVariant": "value"}
	}
	content, err := json.Marshal(map[string]any{"flags": file})
	if err != nil {
		t.Fatalf("flagstest: %v", err)
	}
	return Open(t, string(content))
}

// Open returns Flags with the content of a flag file, for tests of targeting. They are closed at the end of the test. A content
// in which something is refused fails the test.
func Open(t testing.TB, content string) *flags.Flags {
	t.Helper()
	f, err := flags.Open("", flags.Options{Defaults: []byte(content), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("flagstest: %v", err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("flagstest: %v", err)
		}
	})
	return f
}

// With returns a context in which ff has the values, by key, for all evaluations: by handles, by name, by clients of the SDK, and
// for Vars with their method In. Other contexts, and Weight and Get, do not change. A value that JSON does not know fails the test.
func With(t testing.TB, ctx context.Context, ff *flags.Flags, values map[string]any) context.Context {
	t.Helper()
	ctx, err := moment.Of(ff).With(ctx, values)
	if err != nil {
		t.Fatalf("flagstest: %v", err)
	}
	return ctx
}
