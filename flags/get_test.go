package flags_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

const kinds = `{"metadata": {"team": "shop", "set": 1}, "flags": {
	"bool": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on", "metadata": {"team": "cart"}},
	"string": {"state": "ENABLED", "variants": {"x": "text", "e": ""}, "defaultVariant": "x"},
	"float": {"state": "ENABLED", "variants": {"x": 0.5}, "defaultVariant": "x"},
	"int": {"state": "ENABLED", "variants": {"x": 9007199254740993}, "defaultVariant": "x"},
	"whole": {"state": "ENABLED", "variants": {"x": 1e3}, "defaultVariant": "x"},
	"huge": {"state": "ENABLED", "variants": {"x": 1e300}, "defaultVariant": "x"},
	"object": {"state": "ENABLED", "variants": {"x": {"n": 1, "l": [1, {"a": null}]}}, "defaultVariant": "x"},
	"disabled": {"state": "DISABLED", "variants": {"x": true}, "defaultVariant": "x"},
	"open": {"state": "ENABLED", "variants": {"x": true}},
	"targeted": {"state": "ENABLED", "variants": {"x": true, "y": false}, "defaultVariant": "y", "targeting": {"var": "variant"}}
}}`

// The getters give the value of their type, and the default for anything else.
func TestGettersGiveTheirType(t *testing.T) {
	f, ctx := serve(t, kinds), context.Background()
	mustBe(t, "bool", f.Bool(ctx, "bool", false), true)
	mustBe(t, "string", f.String(ctx, "string", "def"), "text")
	mustBe(t, "float", f.Float(ctx, "float", -1), 0.5)
	mustBe(t, "a whole float", f.Float(ctx, "whole", -1), 1000)
	mustBe(t, "int", f.Int(ctx, "int", -1), 9007199254740993)
	mustBe(t, "a whole int", f.Int(ctx, "whole", -1), 1000)
	mustBe(t, "int of a fraction", f.Int(ctx, "float", -1), -1)
	mustBe(t, "int of more than 64 bits", f.Int(ctx, "huge", -1), -1)
	mustBe(t, "a bool as string", f.String(ctx, "bool", "def"), "def")
	mustBe(t, "a string as bool", f.Bool(ctx, "string", true), true)
	mustBe(t, "a number as object", f.Object(ctx, "float", 1), any(1))
	mustBe(t, "disabled", f.Bool(ctx, "disabled", false), false)
	mustBe(t, "without default variant", f.Bool(ctx, "open", false), false)
	mustBe(t, "missing", f.Float(ctx, "missing", math.Pi), math.Pi)
	want := map[string]any{"n": 1.0, "l": []any{1.0, map[string]any{"a": nil}}}
	got := f.Object(ctx, "object", nil)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("object: %v", got)
	}
	got.(map[string]any)["n"] = "changed"
	got.(map[string]any)["l"].([]any)[0] = "changed"
	if again := f.Object(ctx, "object", nil); !reflect.DeepEqual(again, want) {
		t.Errorf("a caller changed the flag: %v", again)
	}
}

// Details say why: the reason, the variant, the metadata of flag and file, and the error as OpenFeature codes it.
func TestDetailsTellReason(t *testing.T) {
	f := serve(t, kinds)
	choose := func(variant any) context.Context {
		return f.With(context.Background(), "", map[string]any{"variant": variant})
	}
	for _, c := range []struct {
		key, variant string
		ctx          context.Context
		reason       openfeature.Reason
		code         openfeature.ErrorCode
	}{
		{"bool", "on", context.Background(), openfeature.StaticReason, ""},
		{"disabled", "", context.Background(), openfeature.DisabledReason, ""},
		{"open", "", context.Background(), openfeature.DefaultReason, ""},
		{"targeted", "x", choose("x"), openfeature.TargetingMatchReason, ""},
		{"targeted", "y", choose(nil), openfeature.DefaultReason, ""},
		{"targeted", "", choose("z"), openfeature.ErrorReason, openfeature.GeneralCode},
		{"targeted", "", choose([]any{}), openfeature.ErrorReason, openfeature.GeneralCode},
		{"string", "", context.Background(), openfeature.ErrorReason, openfeature.TypeMismatchCode},
		{"missing", "", context.Background(), openfeature.ErrorReason, openfeature.FlagNotFoundCode},
	} {
		d := f.BoolFlag(c.key, true).Details(c.ctx)
		r := d.ResolutionDetail()
		if r.Variant != c.variant || r.Reason != c.reason || r.ErrorCode != c.code {
			t.Errorf("%s: %+v, want %v", c.key, r, c)
		}
		if c.code != "" {
			mustHold(t, r.ErrorMessage, c.key)
			mustBe(t, c.key, d.Value, true)
		}
	}
	mustBe(t, "evaluation errors", f.Status().EvaluationErrors, 4)
	d := f.BoolFlag("bool", false).Details(context.Background())
	if want := (openfeature.FlagMetadata{"team": "cart", "set": 1.0}); !reflect.DeepEqual(d.FlagMetadata, want) {
		t.Errorf("metadata %v", d.FlagMetadata)
	}
	d.FlagMetadata["team"] = "changed"
	mustBe(t, "the metadata of the next one", f.BoolFlag("bool", false).Details(context.Background()).FlagMetadata["team"], any("cart"))
}

// Without values everything is the default, and says that it is not ready.
func TestNotReadyIsAnError(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	d := f.IntFlag("x", 7).Details(context.Background())
	mustBe(t, "the value", d.Value, 7)
	mustBe(t, "the code", d.ResolutionDetail().ErrorCode, openfeature.ProviderNotReadyCode)
	mustBe(t, "evaluation errors", f.Status().EvaluationErrors, 1)
}

// A panic in the program's function, or a context that is nil, is an error of that evaluation.
func TestPanicsStayInside(t *testing.T) {
	f, _ := served(t, rule(`{"if":[{"var":"boom"},"a","b"]}`), flags.Options{
		Attributes: map[string]func(context.Context) string{"boom": func(context.Context) string { panic("boom") }},
	})
	mustBe(t, "the value", f.String(context.Background(), "f", "default"), "default")
	d := f.StringFlag("f", "default").Details(context.Background())
	mustBe(t, "the reason", d.Reason, openfeature.ErrorReason)
	mustHold(t, d.ResolutionDetail().ErrorMessage, "panic: boom")
	var none context.Context
	mustBe(t, "without context", f.String(none, "f", "default"), "default")
}

// What an inner With does not say stays as the outer one said it.
func TestWithAddsToWhatWasSaid(t *testing.T) {
	f := serve(t, rule(`{"if":[{"and":[{"==":[{"var":"targetingKey"},"u"]},{"==":[{"var":"x"},1]},{"==":[{"var":"y"},3]}]},"a","b"]}`))
	ctx := f.With(context.Background(), "u", map[string]any{"x": 1, "y": 2})
	mustBe(t, "outside", f.String(ctx, "f", ""), "b")
	ctx = f.With(ctx, "", map[string]any{"y": 3})
	mustBe(t, "inside", f.String(ctx, "f", ""), "a")
	ctx = openfeature.MergeTransactionContext(ctx, openfeature.NewTargetlessEvaluationContext(map[string]any{"x": 2}))
	mustBe(t, "by the SDK", f.String(ctx, "f", ""), "b")
}

// A handle follows the file, also when its flag comes later or changes its type.
func TestHandleFollowsFile(t *testing.T) {
	f, path := served(t, `{"flags": {}}`, flags.Options{})
	b, s, n, i, o := f.BoolFlag("cart", false), f.StringFlag("cart", "s"), f.FloatFlag("w", 9), f.IntFlag("w", 9), f.ObjectFlag("w", 9)
	ctx := context.Background()
	mustBe(t, "missing", b.Get(ctx), false)
	write(t, path, file("on"))
	f.Check()
	mustBe(t, "there", b.Get(ctx), true)
	mustBe(t, "another type", s.Get(ctx), "s")
	write(t, path, strings.Replace(file("on"), "true", `"now"`, 1))
	f.Check() // two types: a warning, as for flagd
	mustBe(t, "with a text for on", b.Get(ctx), false)
	mustHold(t, fmt.Sprint(f.Status().Warnings), "all should be of one type")
	write(t, path, number("3"))
	f.Check()
	mustBe(t, "gone", b.Get(ctx), false)
	mustBe(t, "float", n.Get(ctx), 3)
	mustBe(t, "int", i.Get(ctx), 3)
	mustBe(t, "object", o.Get(ctx), any(9))
}

// The weight is the static value of a number flag in [0,1], and the fallback in every other case.
func TestWeightIsShareOrFallback(t *testing.T) {
	flag := func(def string) string { return `{"flags": {"w": ` + def + `}}` }
	for content, want := range map[string]float64{
		number("0"): 0, number("1"): 1, number("0.25"): 0.25, number("1e-9"): 1e-9, number("-0.0"): 0,
		number("1.0000001"): 0.5, number("-0.1"): 0.5, number("25"): 0.5, number("true"): 0.5, number(`"0.1"`): 0.5, number(`{"w": 1}`): 0.5,
		`{"flags": {}}`: 0.5,
		flag(`{"state": "DISABLED", "variants": {"v": 0.1}, "defaultVariant": "v"}`):                                                0.5,
		flag(`{"state": "ENABLED", "variants": {"v": 0.1}}`):                                                                        0.5,
		flag(`{"state": "ENABLED", "variants": {"v": 0.1}, "defaultVariant": "v", "targeting": {}}`):                                0.1,
		flag(`{"state": "ENABLED", "variants": {"v": 0.1}, "defaultVariant": "v", "targeting": {"if": [{"var": "x"}, "v", null]}}`): 0.5,
	} {
		mustBe(t, "the weight of "+content, serve(t, content).Weight("w", 0.5)(), want)
	}
	for _, def := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		mustBe(t, "a fallback that is no weight", serve(t, number("7")).Weight("w", def)(), 0)
	}
}

// The weight follows the file: a change at the next look, a broken file not at all, a removed flag to the fallback.
func TestWeightFollowsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	f := open(t, path, flags.Options{})
	weight, other := f.Weight("w", 0), f.Weight("w", 1)
	for i, c := range []struct {
		content string
		want    float64
		other   float64
	}{{"", 0, 1}, {number("0.05"), 0.05, 0.05}, {number("0.5"), 0.5, 0.5}, {"{", 0.5, 0.5}, {number("5"), 0, 1}, {number("1"), 1, 1}, {`{"flags": {}}`, 0, 1}} {
		write(t, path, c.content)
		f.Check()
		if weight() != c.want || other() != c.other {
			t.Errorf("step %d: %v and %v, want %v and %v", i, weight(), other(), c.want, c.other)
		}
	}
	mustBe(t, "errors of evaluations", f.Status().EvaluationErrors, 0)
}

// The status is JSON with the names that the documentation gives.
func TestStatusTellsWhatIsServed(t *testing.T) {
	f, path := served(t, kinds, flags.Options{})
	s := f.Status()
	if s.Path != path || s.Source != path || s.Flags != 10 || s.State != "ready" || len(s.Version) != 12 || s.Kept || s.Loaded.IsZero() || s.Error != "" {
		t.Errorf("%+v", s)
	}
	data, err := json.Marshal(s)
	check(t, err)
	mustHold(t, string(data), `"path":`, `"state":"ready"`, `"flags":10`, `"version":`, `"loaded":`, `"evaluation_errors":0`)
	write(t, path, kinds+" ")
	f.Check()
	if again := f.Status(); again.Version == s.Version || again.Loads != 2 {
		t.Errorf("other content: %+v", again)
	}
}
