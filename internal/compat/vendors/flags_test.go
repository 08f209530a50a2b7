package vendors

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/open-feature/go-sdk/openfeature"
)

// flagsOf returns the flags of a provider, which are closed at the end of the test.
func flagsOf(t *testing.T, p openfeature.FeatureProvider) *flags.Flags {
	t.Helper()
	f, err := flags.FromProvider(p, flags.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// readyFlags returns the flags of a provider that is ready.
func readyFlags(t *testing.T, p openfeature.FeatureProvider) *flags.Flags {
	t.Helper()
	f := flagsOf(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return f
}

// throughFlags asks through the handles of flags.FromProvider.
func throughFlags(t *testing.T, p openfeature.FeatureProvider) asker {
	f, changes := readyFlags(t, p), make(chan []string, 100)
	changed := func(e openfeature.EventDetails) { changes <- e.FlagChanges }
	f.Client().AddHandler(openfeature.ProviderConfigChange, &changed)
	return asker{changes: changes, ask: func(q question) answer {
		ctx := f.With(context.Background(), q.who, q.attrs)
		switch def := q.def.(type) {
		case bool:
			return resolved(f.BoolFlag(q.flag, def).Details(ctx))
		case string:
			return resolved(f.StringFlag(q.flag, def).Details(ctx))
		case float64:
			return resolved(f.FloatFlag(q.flag, def).Details(ctx))
		case int64:
			return resolved(f.IntFlag(q.flag, def).Details(ctx))
		default:
			return resolved(f.ObjectFlag(q.flag, def).Details(ctx))
		}
	}}
}

// throughFlagsClient asks through the client of flags.FromProvider.
func throughFlagsClient(t *testing.T, p openfeature.FeatureProvider) asker {
	f, changes := readyFlags(t, p), make(chan []string, 100)
	changed := func(e openfeature.EventDetails) { changes <- e.FlagChanges }
	client := f.Client()
	client.AddHandler(openfeature.ProviderConfigChange, &changed)
	return asker{changes: changes, ask: func(q question) answer { return q.through(client) }}
}

func resolved[T any](d openfeature.GenericResolutionDetail[T]) answer {
	rest := d.ResolutionDetail()
	return answer{d.Value, details{rest.Reason, rest.Variant, rest.ErrorCode}}
}

// A weight has the value of the vendor at once, and a Var follows a change of the vendor.
func TestVendorsHaveWeightsAndVars(t *testing.T) {
	for _, v := range vendors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			provider, set := v.open(t)
			f := readyFlags(t, provider)
			if got := f.Weight("weight", 0.75)(); got != 0.25 {
				t.Errorf("the weight is %v", got)
			}
			if set == nil {
				t.Skip(v.limits[noChange])
			}
			value := flags.NewVar(f, "switch", false, flags.VarOptions[bool]{})
			set(t, true)
			testutil.Until(t, patience, "the Var to be true", value.Get)
		})
	}
}

// starting is a provider that starts until it is shut down.
type starting struct {
	openfeature.NoopProvider
	end chan struct{}
}

func (s *starting) Init(openfeature.EvaluationContext) error {
	<-s.end
	return nil
}

func (s *starting) Shutdown() { close(s.end) }

// A flag that a vendor calls static has its value in the next process before the provider is ready there. All others, and all
// flags of a vendor that calls none static, have the default.
func TestVendorsStaticFlagsOutliveUpgrade(t *testing.T) {
	for _, v := range vendors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			provider, _ := v.open(t)
			old, next := readyFlags(t, provider), flagsOf(t, &starting{end: make(chan struct{})})
			ctx := old.With(context.Background(), "ann", map[string]any{"plan": "pro"})
			if got := fmt.Sprintf("%v %s", old.Bool(ctx, "on", false), old.String(ctx, "plan", "none")); got != "true gold" {
				t.Fatalf("the flags are %s", got)
			}
			data, err := old.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if err := next.UnmarshalBinary(data); err != nil {
				t.Fatal(err)
			}
			want := answer{true, details{reason: openfeature.CachedReason}}
			if v.limits[noStatic] != "" {
				want = answer{false, details{openfeature.ErrorReason, "", openfeature.ProviderNotReadyCode}}
			}
			if got := resolved(next.BoolFlag("on", false).Details(ctx)); got != want {
				t.Errorf("the static flag is %#v, want %#v", got, want)
			}
			if got := next.String(ctx, "plan", "none"); got != "none" {
				t.Errorf("the flag with a rule is %q", got)
			}
		})
	}
}
