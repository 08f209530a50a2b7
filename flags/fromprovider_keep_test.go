package flags_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

// heir is a provider of a new process, which is not ready for an hour, with its flags. It has the given state.
func heir(t *testing.T, state []byte, opts flags.Options) (*host, *flags.Flags) {
	t.Helper()
	h := newHost()
	end := make(chan struct{})
	h.shutdown = func() { close(end) }
	h.init = func() error {
		select {
		case <-end:
		case <-time.After(time.Hour):
		}
		return nil
	}
	f := from(t, h, opts)
	if state != nil {
		check(t, f.UnmarshalBinary(state))
	}
	synctest.Wait()
	return h, f
}

func stateOf(t *testing.T, f *flags.Flags) []byte {
	t.Helper()
	data, err := f.MarshalBinary()
	check(t, err)
	return data
}

// Values of each type that was static in the old process are the same in the new one, until its provider is ready. They outlive
// a second upgrade before that.
func TestStaticValuesOutliveAnUpgrade(t *testing.T) {
	object := map[string]any{"whole": int64(1<<60 + 1), "float": 3.0, "tiny": 1e-300, "text": "5.0", "list": []any{true, nil, map[string]any{"x": -0.5}, int64(-2)}}
	values := map[string]any{"bool": true, "no": false, "string": "a \"b\" \u2028", "empty": "", "float": 3.0, "huge": math.MaxFloat64,
		"int": int64(1<<60 + 1), "zero": int64(0), "object": object}
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		for key, value := range values {
			h.put(key, fixed(value))
			d := askAs(f, key, value)
			mustBe(t, "the reason before", d.Reason, openfeature.StaticReason)
			if o, ok := d.Value.(map[string]any); ok {
				o["whole"] = "changed by the caller"
			}
		}
		weight := f.Weight("float-weight", 0)
		h.put("float-weight", fixed(0.25))
		h.put("duration", fixed("1h"))
		wait(1)
		mustBe(t, "the weight", weight(), 0.25)
		flags.NewVar(f, "duration", time.Second, flags.VarOptions[time.Duration]{})
		state := stateOf(t, f)
		for generation := range 3 {
			h, next := heir(t, state, flags.Options{})
			for key, value := range values {
				d := askAs(next, key, value)
				if !reflect.DeepEqual(d.Value, value) {
					t.Errorf("generation %d: %s is %#v, want %#v", generation, key, d.Value, value)
				}
				mustBe(t, "the reason of "+key, d.Reason, openfeature.CachedReason)
			}
			mustBe(t, "the weight", next.Weight("float-weight", 0)(), 0.25)
			mustBe(t, "the Var", flags.NewVar(next, "duration", time.Second, flags.VarOptions[time.Duration]{}).Get(), time.Hour)
			mustBe(t, "the calls", h.calls(), 0)
			mustBe(t, "the errors", next.Status().EvaluationErrors, 0)
			next.ObjectFlag("object", nil).Get(context.Background()).(map[string]any)["whole"] = "changed by a caller"
			state = stateOf(t, next)
			check(t, next.Close())
		}
	})
}

// askAs asks for a flag with the type of the value.
func askAs(f *flags.Flags, key string, value any) openfeature.InterfaceResolutionDetail {
	ctx := context.Background()
	switch value := value.(type) {
	case bool:
		return boxed(f.BoolFlag(key, !value).Details(ctx))
	case string:
		return boxed(f.StringFlag(key, "def").Details(ctx))
	case float64:
		return boxed(f.FloatFlag(key, -7).Details(ctx))
	case int64:
		return boxed(f.IntFlag(key, -7).Details(ctx))
	}
	return f.ObjectFlag(key, nil).Details(ctx)
}

func boxed[T any](d openfeature.GenericResolutionDetail[T]) openfeature.InterfaceResolutionDetail {
	return openfeature.InterfaceResolutionDetail{Value: d.Value, ProviderResolutionDetail: d.ProviderResolutionDetail}
}

// A weight and a Var that are made before the state comes have the kept values when it has come.
func TestKeptWeightOfEarlierHandle(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("w", fixed(0.25))
		f.Weight("w", 0)
		_, next := heir(t, nil, flags.Options{})
		weight, v := next.Weight("w", 0), flags.NewVar(next, "w", 1.0, flags.VarOptions[float64]{})
		mustBe(t, "the weight before", weight(), 0)
		check(t, next.UnmarshalBinary(stateOf(t, f)))
		mustBe(t, "the weight", weight(), 0.25)
		mustBe(t, "the Var", v.Get(), 0.25)
		check(t, next.Close())
	})
}

// What was not static is the caller's default until the provider is ready, and counts; so is a flag that was static once, one
// that is gone, another type, and an object that JSON would change.
func TestOtherValuesDoNotOutliveAnUpgrade(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		type own struct{ A int }
		for _, key := range []string{"targeted", "once", "gone", "mismatch", "struct", "nan", "bytes", "down"} {
			h.put(key, fixed("x"))
			f.String(context.Background(), key, "")
		}
		h.put("targeted", fact{value: "x", reason: openfeature.TargetingMatchReason})
		h.put("once", fact{value: "x", reason: openfeature.SplitReason})
		h.set(func() { delete(h.flags, "gone") })
		h.put("mismatch", fixed(true))
		h.put("bytes", fixed("\xff"))
		h.put("down", fact{value: "x", err: openfeature.NewGeneralResolutionError("down")})
		for _, key := range []string{"targeted", "once", "gone", "mismatch", "bytes", "down"} {
			f.String(context.Background(), key, "")
		}
		h.put("struct", fact{value: map[string]any{"a": own{1}}, reason: openfeature.StaticReason})
		f.Object(context.Background(), "struct", nil)
		h.put("nan", fixed(math.NaN()))
		f.Float(context.Background(), "nan", 0)

		_, next := heir(t, stateOf(t, f), flags.Options{})
		for _, key := range []string{"targeted", "once", "gone", "mismatch", "bytes", "never"} {
			d := next.StringFlag(key, "def").Details(context.Background())
			mustBe(t, key, d.Value, "def")
			mustHold(t, d.ResolutionError.Error(), "PROVIDER_NOT_READY")
		}
		mustBe(t, "a struct", next.Object(context.Background(), "struct", nil), nil)
		mustBe(t, "NaN", next.Float(context.Background(), "nan", 7), 7)
		mustBe(t, "another type", next.Bool(context.Background(), "down", true), true)
		mustBe(t, "the errors", next.Status().EvaluationErrors, 9)
		mustBe(t, "a flag that failed for a moment", next.String(context.Background(), "down", "def"), "x")
		check(t, next.Close())
	})
}

// From the first READY on, the provider's values are served, and those that it gives are what the next process gets; flags that
// nobody has asked for meanwhile are passed on as well.
func TestReadyEndsTheCache(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, old *host, f *flags.Flags) {
		for _, key := range []string{"a", "b"} {
			old.put(key, fixed("old"))
			f.String(context.Background(), key, "")
		}
		h, next := heir(t, stateOf(t, f), flags.Options{})
		h.put("a", fixed("new"))
		h.put("b", fixed("new"))
		mustBe(t, "before", next.String(context.Background(), "a", ""), "old")
		weight := next.Weight("w", 0.5)
		h.put("w", fixed(0.75))
		wait(3600)
		check(t, next.Ready(context.Background()))
		d := next.StringFlag("a", "").Details(context.Background())
		mustBe(t, "the value", d.Value, "new")
		mustBe(t, "the reason", d.Reason, openfeature.StaticReason)
		mustBe(t, "the weight", weight(), 0.75)
		check(t, next.UnmarshalBinary(stateOf(t, f)))
		_, third := heir(t, stateOf(t, next), flags.Options{})
		mustBe(t, "after a late state", next.String(context.Background(), "a", ""), "new")
		mustBe(t, "in the third process", third.String(context.Background(), "a", ""), "new")
		mustBe(t, "a flag nobody asked for", third.String(context.Background(), "b", ""), "old")
		wait(600)
		_, fourth := heir(t, stateOf(t, next), flags.Options{})
		mustBe(t, "in the fourth process", fourth.String(context.Background(), "a", ""), "new")
		mustBe(t, "a flag nobody has asked for in 10 minutes", fourth.String(context.Background(), "b", "def"), "def")
		for _, f := range []*flags.Flags{next, third, fourth} {
			check(t, f.Close())
		}
	})
}

// A value that is the same in the next process is its own when it was asked for there.
func TestKeptValueThatIsAskedForAgain(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, old *host, f *flags.Flags) {
		old.put("a", fixed("same"))
		f.String(context.Background(), "a", "")
		h, next := heir(t, stateOf(t, f), flags.Options{})
		h.put("a", fixed("same"))
		wait(3600)
		mustBe(t, "the value", next.String(context.Background(), "a", ""), "same")
		wait(600)
		_, third := heir(t, stateOf(t, next), flags.Options{})
		mustBe(t, "in the third process", third.String(context.Background(), "a", ""), "same")
		check(t, next.Close())
		check(t, third.Close())
	})
}

// Kept values outrank Options.Defaults, and a provider that comes up with an error does not end them.
func TestCacheOutranksDefaults(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, old *host, f *flags.Flags) {
		old.put("f", fixed(true))
		f.Bool(context.Background(), "f", false)
		_, next := heir(t, stateOf(t, f), flags.Options{Defaults: []byte(strings.ReplaceAll(file("off"), "cart", "f"))})
		d := next.BoolFlag("f", false).Details(context.Background())
		mustBe(t, "the value", fmt.Sprintf("%v %s", d.Value, d.Reason), "true CACHED")
		check(t, next.Close())

		broken := newHost()
		broken.init = func() error { return fmt.Errorf("no network") }
		last := from(t, broken, flags.Options{})
		check(t, last.UnmarshalBinary(stateOf(t, f)))
		synctest.Wait()
		mustBe(t, "in state ERROR", last.Bool(context.Background(), "f", false), true)
		mustBe(t, "another flag", last.BoolFlag("g", false).Details(context.Background()).ResolutionDetail().ErrorCode, openfeature.FlagNotFoundCode)
		check(t, last.Close())
	})
}

// The kept state has at most 1,000 values and 1 MB, whatever the provider says, and old values make no room for wrong ones.
func TestKeptValuesAreBounded(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		for i := range 1200 {
			key := fmt.Sprint("f", i)
			h.put(key, fixed(true))
			f.Bool(context.Background(), key, false)
		}
		h.put("f0", fact{value: false, reason: openfeature.SplitReason})
		f.Bool(context.Background(), "f0", false)
		h.put("last", fixed(true))
		f.Bool(context.Background(), "last", false)
		h.put("w", fixed(0.25))
		f.Weight("w", 0)
		h.put("large", fixed(strings.Repeat("x", 2<<20)))
		f.String(context.Background(), "large", "")
		self := map[string]any{}
		h.put("deep", fixed("small"))
		f.String(context.Background(), "deep", "")
		for range 900 {
			self = map[string]any{"a": self}
		}
		h.put("deep", fixed(self))
		f.Object(context.Background(), "deep", nil)
		data := stateOf(t, f)
		if len(data) > 100_000 {
			t.Errorf("the state has %d bytes", len(data))
		}
		_, next := heir(t, data, flags.Options{})
		served := 0
		for i := range 1200 {
			if next.Bool(context.Background(), fmt.Sprint("f", i), false) {
				served++
			}
		}
		mustBe(t, "the values", served, 999)
		mustBe(t, "a weight", next.Weight("w", 0)(), 0.25)
		mustBe(t, "a large value", next.String(context.Background(), "large", "def"), "def")
		check(t, next.Close())
	})
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		for i := range 20 {
			h.put(fmt.Sprint(i), fixed(strings.Repeat("x", 100<<10)))
			f.String(context.Background(), fmt.Sprint(i), "")
		}
		if n := len(stateOf(t, f)); n > 1<<20+10_000 {
			t.Errorf("the state has %d bytes", n)
		}
		h.put("0", fixed("small"))
		f.String(context.Background(), "0", "")
		h.put("0", fixed(strings.Repeat("x", 1<<20)))
		f.String(context.Background(), "0", "")
		_, next := heir(t, stateOf(t, f), flags.Options{})
		mustBe(t, "a value that has no room", next.String(context.Background(), "0", "def"), "def")
		check(t, next.Close())
	})
}

// A state that is damaged, of another build or of a file changes nothing but what is well.
func TestStrangeKeptValues(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("f", fixed(true))
		f.Bool(context.Background(), "f", false)
		data := stateOf(t, f)
		for i := range data {
			bad := slices.Clone(data)
			bad[i] ^= 1
			_, next := heir(t, nil, flags.Options{})
			if next.UnmarshalBinary(bad) == nil {
				t.Errorf("byte %d of %d may be another", i, len(data))
			}
			mustBe(t, "the flag", next.Bool(context.Background(), "f", false), false)
			check(t, next.Close())
		}
	})
	path := t.TempDir() + "/flags.json"
	write(t, path, file("on"))
	fromFile := open(t, path, flags.Options{})
	bubble(t, func(t *testing.T) {
		_, next := heir(t, stateOf(t, fromFile), flags.Options{})
		mustBe(t, "the flag of a file", next.Bool(context.Background(), "cart", false), false)
		check(t, next.Close())
	})
}
