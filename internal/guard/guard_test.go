package guard_test

import (
	"errors"
	"testing"

	"github.com/midair-go/midair/internal/guard"
)

// If fn panics, Call returns an error with the value of the panic. If fn returns an error or nil, Call returns the same.
func TestAPanicIsAnError(t *testing.T) {
	bad := errors.New("bad")
	for name, test := range map[string]struct {
		fn   func() error
		want string
	}{
		"nil":             {func() error { return nil }, ""},
		"an error":        {func() error { return bad }, "bad"},
		"a panic":         {func() error { panic("fell over") }, "panic: fell over"},
		"a panic's error": {func() error { panic(bad) }, "panic: bad"},
		"a run-time one":  {func() error { return *(*error)(nil) }, "panic: runtime error: invalid memory address or nil pointer dereference"},
	} {
		got := ""
		if err := guard.Call(test.fn); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
