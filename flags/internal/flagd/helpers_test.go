package flagd_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/open-feature/go-sdk/openfeature"
)

// attrs are the attributes of a caller.
type attrs = map[string]any

// env is a caller with a targeting key and attributes.
func env(key string, a attrs) flagd.Env {
	return flagd.Env{Ctx: context.Background(), EC: openfeature.NewEvaluationContext(key, a)}
}

// rule is a flag file with one string flag, "f", that has the variants a, b, c, true, false, 1 and 2, each with its name
// as the value, the default variant none, and the given targeting.
func rule(targeting string) string {
	return fmt.Sprintf(`{"flags": {"f": {"state": "ENABLED", "defaultVariant": "none", "targeting": %s, "variants":
		{"a": "a", "b": "b", "c": "c", "true": "true", "false": "false", "1": "1", "2": "2", "none": "none"}}}}`, targeting)
}

// parse compiles a file that can be used.
func parse(t testing.TB, content string) *flagd.Document {
	return parseWith(t, content, flagd.Options{})
}

func parseWith(t testing.TB, content string, opts flagd.Options) *flagd.Document {
	t.Helper()
	d, err := flagd.Parse([]byte(content), opts)
	if err != nil {
		t.Fatalf("%v in %.200s", err, content)
	}
	return d
}

// served is the flag of a file in which it can be served.
func served(t testing.TB, d *flagd.Document, key string) *flagd.Flag {
	t.Helper()
	f := d.Flags[key]
	if f == nil {
		t.Fatalf("%s cannot be served: %v", key, d.Faults)
	}
	return f
}

// choose is the name of the variant that a flag has for a caller: "error" for an evaluation that fails, "choice" for one
// that chooses no variant, and "caller" if the default of the caller is the value.
func choose(f *flagd.Flag, e flagd.Env) string {
	v := f.Default
	if f.Disabled {
		return "caller"
	}
	if f.Targeted() {
		chosen, err := f.Target(e)
		switch {
		case err != nil && strings.Contains(err.Error(), flagd.ErrChoice.Error()):
			return "choice"
		case err != nil:
			return "error"
		case chosen != nil:
			v = chosen
		}
	}
	if v == nil {
		return "caller"
	}
	return v.Name
}

// result is what a rule chooses for a caller.
func result(t testing.TB, targeting string, e flagd.Env) string {
	t.Helper()
	return choose(served(t, parse(t, rule(targeting)), "f"), e)
}

func mustBe[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func mustHold(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not tell %q", text, part)
		}
	}
}
