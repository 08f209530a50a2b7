package flags_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/httpflags"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/memprovider"
)

// All getters, handles and the client give the value of the provider with its variant, reason and metadata.
func TestProviderAnswersEveryType(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		ctx, ec, c := context.Background(), openfeature.EvaluationContext{}, f.Client()
		for key, value := range map[string]any{"bool": true, "string": "x", "float": 0.5, "int": int64(1<<60 + 1), "object": map[string]any{"a": int64(1)}} {
			h.put(key, fact{value: value, reason: "SPLIT", variant: "v-" + key, metadata: map[string]any{"owner": key}})
		}
		b, _ := c.BooleanValueDetails(ctx, "bool", false, ec)
		s, _ := c.StringValueDetails(ctx, "string", "", ec)
		n, _ := c.FloatValueDetails(ctx, "float", 0, ec)
		i, _ := c.IntValueDetails(ctx, "int", 0, ec)
		o, _ := c.ObjectValueDetails(ctx, "object", nil, ec)
		object := map[string]any{"a": int64(1)}
		for _, v := range []struct{ got, want any }{
			{f.Bool(ctx, "bool", false), true}, {f.String(ctx, "string", ""), "x"}, {f.Float(ctx, "float", 0), 0.5}, {f.Int(ctx, "int", 0), int64(1<<60 + 1)},
			{f.Object(ctx, "object", nil), any(object)}, {b.Value, true}, {s.Value, "x"}, {n.Value, 0.5}, {i.Value, int64(1<<60 + 1)}, {o.Value, any(object)},
			{f.BoolFlag("bool", false).Details(ctx).ResolutionDetail(), b.ResolutionDetail}, {f.StringFlag("string", "").Details(ctx).ResolutionDetail(), s.ResolutionDetail},
			{f.FloatFlag("float", 0).Details(ctx).ResolutionDetail(), n.ResolutionDetail}, {f.IntFlag("int", 0).Details(ctx).ResolutionDetail(), i.ResolutionDetail},
			{f.ObjectFlag("object", nil).Details(ctx).ResolutionDetail(), o.ResolutionDetail}, {f.StringFlag("string", "").Get(ctx), "x"},
		} {
			if !reflect.DeepEqual(v.got, v.want) {
				t.Errorf("got %#v, want %#v", v.got, v.want)
			}
		}
		mustBe(t, "the details", fmt.Sprint(i.ResolutionDetail), "{v-int SPLIT   map[owner:int]}")
		mustBe(t, "the errors", f.Status().EvaluationErrors, 0)
	})
}

// Each error of the provider is the caller's default, with the code, the text and the variant of the provider, and counts.
func TestErrorsOfAProviderKeepTheirCode(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		for _, e := range []openfeature.ResolutionError{
			openfeature.NewFlagNotFoundResolutionError("e1"), openfeature.NewTypeMismatchResolutionError("e2"), openfeature.NewParseErrorResolutionError("e3"),
			openfeature.NewTargetingKeyMissingResolutionError("e4"), openfeature.NewInvalidContextResolutionError("e5"),
			openfeature.NewGeneralResolutionError("e6"), openfeature.NewProviderNotReadyResolutionError("e7"),
			openfeature.NewProviderFatalResolutionError("e8"),
		} {
			h.put("f", fact{value: true, variant: "v", err: e, metadata: map[string]any{"m": 1}})
			before := f.Status().EvaluationErrors
			d := f.BoolFlag("f", false).Details(context.Background())
			sdk, _ := f.Client().BooleanValueDetails(context.Background(), "f", false, openfeature.EvaluationContext{})
			got := d.ResolutionDetail()
			mustBe(t, "the value", d.Value || sdk.Value, false)
			mustBe(t, "the reason", got.Reason, openfeature.ErrorReason)
			mustBe(t, "the variants", got.Variant+" "+sdk.Variant, "v v")
			code, text, _ := strings.Cut(e.Error(), ": ")
			mustBe(t, "the code", string(got.ErrorCode), code)
			mustBe(t, "the text", got.ErrorMessage, "flag f: "+text)
			mustBe(t, "the code by the client", sdk.ErrorCode, got.ErrorCode)
			mustBe(t, "the metadata", got.FlagMetadata["m"], any(1))
			mustBe(t, "the errors", f.Status().EvaluationErrors, before+2)
		}
	})
}

// A panic of the provider, of a hook of the provider and of Options.Attributes is an error of one evaluation.
func TestProviderThatPanics(t *testing.T) {
	fails := false
	opts := flags.Options{Attributes: map[string]func(context.Context) string{"side": func(context.Context) string {
		if fails {
			panic("attributes")
		}
		return ""
	}}}
	hosted(t, opts, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("f", fixed(true))
		for name, set := range map[string]func(on bool){
			"evaluation": func(on bool) { h.panics = on }, "attributes": func(on bool) { fails = on },
			"hook": func(on bool) {
				if h.hooks = nil; on {
					h.hooks = []openfeature.Hook{&hook{before: func() { panic("hook") }}}
				}
			},
		} {
			set(true)
			for _, d := range []openfeature.BoolResolutionDetail{f.BoolFlag("f", false).Details(context.Background()), byClient(f, "f")} {
				mustBe(t, name, d.Value, false)
				mustHold(t, d.ResolutionError.Error(), "GENERAL", "panic", name)
			}
			set(false)
			mustBe(t, "afterwards", f.Bool(context.Background(), "f", false), true)
		}
		f.Client().Track(context.Background(), "panic", openfeature.EvaluationContext{}, openfeature.TrackingEventDetails{})
	})
}

func byClient(f *flags.Flags, key string) (d openfeature.BoolResolutionDetail) {
	got, _ := f.Client().BooleanValueDetails(context.Background(), key, false, openfeature.EvaluationContext{})
	d.Value = got.Value
	if got.ErrorCode != "" {
		d.ResolutionError = openfeature.NewGeneralResolutionError(got.ErrorMessage)
	}
	return d
}

// hook counts, and adds an attribute.
type hook struct {
	before   func()
	counts   [4]int
	afterErr error
}

func (h *hook) Before(context.Context, openfeature.HookContext, openfeature.HookHints) (*openfeature.EvaluationContext, error) {
	h.counts[0]++
	if h.before != nil {
		h.before()
	}
	ec := openfeature.NewTargetlessEvaluationContext(map[string]any{"hook": "yes"})
	return &ec, nil
}

func (h *hook) After(context.Context, openfeature.HookContext, openfeature.InterfaceEvaluationDetails, openfeature.HookHints) error {
	h.counts[1]++
	return h.afterErr
}

func (h *hook) Error(context.Context, openfeature.HookContext, error, openfeature.HookHints) {
	h.counts[2]++
}

func (h *hook) Finally(context.Context, openfeature.HookContext, openfeature.InterfaceEvaluationDetails, openfeature.HookHints) {
	h.counts[3]++
}

// The hooks of the provider run exactly once for each evaluation, and what they add reaches it.
func TestHooksOfAProviderRunOnce(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		own := &hook{}
		h.hooks = []openfeature.Hook{own}
		h.put("f", fixed(true))
		for name, ask := range map[string]func(){
			"getter": func() { f.Bool(context.Background(), "f", false) }, "client": func() { byClient(f, "f") },
			"handle": func() { f.BoolFlag("f", false).Details(context.Background()) },
		} {
			own.counts = [4]int{}
			ask()
			mustBe(t, name, own.counts, [4]int{1, 1, 0, 1})
			mustBe(t, "the context", h.last()["hook"], any("yes"))
		}
		own.afterErr = errors.New("full")
		d := f.BoolFlag("f", false).Details(context.Background())
		mustBe(t, "the value", d.Value, false)
		mustHold(t, d.ResolutionError.Error(), "GENERAL", "after hook: full")
	})
}

// What With, Middleware and the call say reaches the provider, and Options.Attributes outrank it.
func TestContextsReachAProvider(t *testing.T) {
	side := "canary"
	opts := flags.Options{Attributes: map[string]func(context.Context) string{
		"side": func(context.Context) string { return side }, "path": func(ctx context.Context) string { p, _ := ctx.Value(pathKey{}).(string); return p },
	}}
	hosted(t, opts, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("f", fixed(true))
		sees := func(what, want string) {
			t.Helper()
			got := h.last()
			mustBe(t, what, fmt.Sprintf("%v %v %v %v", got["targetingKey"], got["plan"], got["side"], got["path"]), want)
		}
		ctx := f.With(context.Background(), "ann", map[string]any{"plan": "pro", "side": "mine"})
		f.Bool(ctx, "f", false)
		sees("With", "ann pro canary <nil>")
		f.Client().Boolean(ctx, "f", false, openfeature.NewEvaluationContext("", map[string]any{"side": "yours", "path": "x"}))
		sees("the client", "ann pro canary x")
		f.Client().Boolean(ctx, "f", false, openfeature.NewEvaluationContext("joe", map[string]any{"plan": "free"}))
		sees("the call", "joe free canary <nil>")
		side = ""
		f.Bool(context.WithValue(ctx, pathKey{}, "/cart"), "f", false)
		sees("an empty answer", "ann pro mine /cart")
		f.Bool(context.Background(), "f", false)
		sees("nobody", "<nil> <nil> <nil> <nil>")
		who := func(*http.Request) (string, map[string]any) { return "eve", map[string]any{"plan": "max"} }
		httpflags.Middleware(f, who)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			f.Bool(r.Context(), "f", false)
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		sees("Middleware", "eve max <nil> <nil>")
	})
}

type pathKey struct{}

// Track reaches the provider with the context of the request.
func TestTrackReachesAProvider(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		ctx := f.With(context.Background(), "ann", nil)
		f.Client().Track(ctx, "sale", openfeature.EvaluationContext{}, openfeature.TrackingEventDetails{})
		mustBe(t, "tracked", fmt.Sprint(h.tracked), "[sale by ann]")
	})
}

// Defaults are served when the provider lacks a flag or fails, and are ready before it; overlays and guards outrank it.
func TestSourcesAroundAProvider(t *testing.T) {
	share := 0.0
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	write(t, overlay, `{"flags": {"over": {"state": "ENABLED", "variants": {"v": "overlay"}, "defaultVariant": "v"}}}`)
	text := func(key string) string {
		return fmt.Sprintf(`%q: {"state": "ENABLED", "variants": {"on": "guard", "v": "default"}, "defaultVariant": "v"}`, key)
	}
	opts := flags.Options{
		Overlays: []string{overlay}, Defaults: []byte(`{"flags": {` + text("over") + "," + text("f") + "," + text("guarded") + `}}`),
		Guards: []flags.Guard{flags.Guarded("guarded", func() float64 { return share })},
	}
	bubble(t, func(t *testing.T) {
		h := newHost()
		forever := make(chan struct{})
		h.init = func() error { <-forever; return nil }
		f := from(t, h, opts)
		sees := func(what, want string) {
			t.Helper()
			ctx, got := f.With(context.Background(), "ann", nil), ""
			for _, key := range []string{"over", "f", "guarded", "none"} {
				d := f.StringFlag(key, "-").Details(ctx)
				sdk := f.Client().String(ctx, key, "-", openfeature.EvaluationContext{})
				mustBe(t, what+": the client", sdk, d.Value)
				got += d.Value + " "
			}
			mustBe(t, what, got, want)
		}
		check(t, f.Ready(context.Background()))
		sees("not ready", "overlay default default - ")
		mustHold(t, f.Status().State, "stale: NOT_READY")
		close(forever)
		synctest.Wait()
		mustBe(t, "the state", f.Status().State, "ready")
		sees("no such flag", "overlay default default - ")
		for _, key := range []string{"over", "f", "guarded", "none"} {
			h.put(key, fixed("provider"))
		}
		sees("the provider", "overlay provider provider provider ")
		share = 1
		sees("the guard", "overlay provider guard provider ")
		h.set(func() { h.panics = true })
		sees("a panic", "overlay default guard - ")
		h.set(func() { h.panics = false })
		h.put("f", fact{value: "x", err: openfeature.NewGeneralResolutionError("down")})
		sees("an error", "overlay default guard provider ")
		h.put("f", fixed(5.0))
		sees("another type", "overlay default guard provider ")
		check(t, f.Close())
	})
}

// Evaluations, events, new handles and Close may all come at once.
func TestProviderUnderConcurrency(t *testing.T) {
	h := newHost()
	h.hooks = []openfeature.Hook{openfeature.UnimplementedHook{}}
	for key, value := range map[string]any{"b": true, "w": 0.5, "o": map[string]any{"a": []any{1.0, "x"}}} {
		h.put(key, fixed(value))
	}
	f := from(t, h, flags.Options{Poll: 1})
	check(t, f.Ready(context.Background()))
	var all sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		all.Go(func() {
			for n := 0; n < 300; n++ {
				ctx := f.With(context.Background(), fmt.Sprint(i), nil)
				if !f.Bool(ctx, "b", false) || f.Client().Float(ctx, "w", 0, openfeature.EvaluationContext{}) != 0.5 {
					t.Error("a wrong value")
				}
				f.ObjectFlag("o", nil).Get(ctx).(map[string]any)["a"].([]any)[1] = i
				f.Weight("w", 0)()
				if _, err := f.MarshalBinary(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for n := 0; ; n++ {
			event := []openfeature.EventType{openfeature.ProviderStale, openfeature.ProviderReady, openfeature.ProviderConfigChange, openfeature.ProviderError}[n%4]
			select {
			case h.events <- openfeature.Event{EventType: event}:
			case <-stop:
				return
			}
		}
	})
	all.Go(func() {
		for range 50 {
			f.Status()
			flags.NewVar(f, "w", 0.1, flags.VarOptions[float64]{}).Get()
		}
		close(stop)
	})
	all.Wait()
	var closing sync.WaitGroup
	for range 4 {
		closing.Go(func() { check(t, f.Close()); f.Bool(context.Background(), "b", false) })
	}
	closing.Wait()
	mustBe(t, "the calls of Shutdown", h.ends, 1)
}

// An evaluation asks a guard once, also where a provider is asked between the guard and Options.Defaults: two answers may differ.
func TestGuardIsAskedOnceBesideAProvider(t *testing.T) {
	asked := 0
	guard := flags.Guarded("f", func() float64 { asked++; return float64(asked % 2) }) // all, nobody, all, and so on
	defaults := `{"flags": {"f": {"state": "ENABLED", "variants": {"on": "guard", "v": "default"}, "defaultVariant": "v"}}}`
	hosted(t, flags.Options{Defaults: []byte(defaults), Guards: []flags.Guard{guard}}, func(t *testing.T, h *host, f *flags.Flags) {
		for i, want := range []string{"guard", "default", "guard", "default"} {
			mustBe(t, fmt.Sprint("evaluation ", i), f.String(as("ann"), "f", "-"), want)
			mustBe(t, "how often the guard was asked", asked, i+1)
		}
	})
}

// A provider without files and changes has nothing to log at its start.
func TestAProviderLoadsNothing(t *testing.T) {
	j := new(journal)
	f, err := flags.FromProvider(memprovider.NewInMemoryProvider(nil), flags.Options{Logger: j.logger()})
	check(t, err)
	defer f.Close()
	mustBe(t, "the log", fmt.Sprint(j.lines()), "[]")
	path := filepath.Join(t.TempDir(), "host.json")
	write(t, path, file("on"))
	other, err := flags.FromProvider(memprovider.NewInMemoryProvider(nil), flags.Options{Logger: j.logger(), Overlays: []string{path}})
	check(t, err)
	defer other.Close()
	mustHold(t, fmt.Sprint(j.lines()), "flags: loaded", "path="+path, "flags=1")
}
