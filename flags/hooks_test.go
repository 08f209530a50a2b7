package flags_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/open-feature/go-sdk/openfeature"
)

// witness is a hook that notes what it sees and adds an attribute.
type witness struct {
	openfeature.UnimplementedHook
	seen []string
}

func (w *witness) Before(context.Context, openfeature.HookContext, openfeature.HookHints) (*openfeature.EvaluationContext, error) {
	ec := openfeature.NewTargetlessEvaluationContext(map[string]any{"plan": "pro"})
	return &ec, nil
}

func (w *witness) After(_ context.Context, hc openfeature.HookContext, d openfeature.InterfaceEvaluationDetails, _ openfeature.HookHints) error {
	w.seen = append(w.seen, fmt.Sprintf("%s %v %s by %s", hc.FlagKey(), d.Value, d.Reason, hc.ProviderMetadata().Name))
	return nil
}

func (w *witness) Error(_ context.Context, hc openfeature.HookContext, err error, _ openfeature.HookHints) {
	w.seen = append(w.seen, fmt.Sprintf("%s: %v", hc.FlagKey(), err))
}

// Hooks of the client are called, see the result and the error, and can add to the context.
func TestHooksOfClientAreCalled(t *testing.T) {
	f := serve(t, rule(`{"if":[{"==":[{"var":"plan"},"pro"]},"a","b"]}`))
	client, ctx, w := f.Client(), context.Background(), &witness{}
	client.AddHooks(w)
	mustBe(t, "with the hook", client.String(ctx, "f", "", openfeature.EvaluationContext{}), "a")
	mustBe(t, "directly", f.String(ctx, "f", ""), "b")
	client.String(ctx, "missing", "", openfeature.EvaluationContext{})
	mustBe(t, "what it saw", len(w.seen), 2)
	mustBe(t, "the result", w.seen[0], "f a TARGETING_MATCH by midair")
	mustHold(t, w.seen[1], "missing: ", "FLAG_NOT_FOUND", "there is no such flag")
}

// The contexts of a client are layered as OpenFeature has them: the call before the client before With.
func TestContextsOfClientAreLayered(t *testing.T) {
	f := serve(t, rule(`{"var":"v"}`))
	client := f.Client()
	variant := func(v string) openfeature.EvaluationContext {
		return openfeature.NewTargetlessEvaluationContext(map[string]any{"v": v})
	}
	ctx := f.With(context.Background(), "", map[string]any{"v": "a"})
	mustBe(t, "With", client.String(ctx, "f", "", openfeature.EvaluationContext{}), "a")
	client.SetEvaluationContext(variant("b"))
	mustBe(t, "the client", client.String(ctx, "f", "", openfeature.EvaluationContext{}), "b")
	mustBe(t, "the call", client.String(ctx, "f", "", variant("c")), "c")
	mustBe(t, "another client", f.Client().String(ctx, "f", "", openfeature.EvaluationContext{}), "a")
	mustBe(t, "directly", f.String(ctx, "f", ""), "a")
}

// Nothing that the package does is seen by the SDK's global API, and nothing done there is seen here.
func TestGlobalAPIIsLeftAlone(t *testing.T) {
	before := openfeature.ProviderMetadata().Name
	f := serve(t, file("on"))
	f.Client()
	mustBe(t, "the global provider", openfeature.ProviderMetadata().Name, before)
	global := openfeature.NewClient("shop").Boolean(context.Background(), "cart", false, openfeature.EvaluationContext{})
	mustBe(t, "the flag there", global, false)
}

// The targeting key may come as an attribute too, which means the same by handle and through the SDK.
func TestTargetingKeyAsAttribute(t *testing.T) {
	f := serve(t, rule(`{"if":[{"==":[{"var":"targetingKey"},"u"]},"a",{"fractional":[["b",1]]}]}`))
	for _, c := range []struct {
		key   string
		attrs map[string]any
		want  string
	}{
		{"", nil, "none"},
		{"u", nil, "a"},
		{"x", nil, "b"},
		{"", map[string]any{"targetingKey": "u"}, "a"},
		{"", map[string]any{"targetingKey": "x"}, "b"},
		{"u", map[string]any{"targetingKey": "x"}, "a"},
		{"", map[string]any{"targetingKey": 7}, "none"},
	} {
		ctx := f.With(context.Background(), c.key, c.attrs)
		mustBe(t, fmt.Sprint("by handle ", c.key, c.attrs), f.StringFlag("f", "").Get(ctx), c.want)
		mustBe(t, fmt.Sprint("through the SDK ", c.key, c.attrs), f.Client().String(ctx, "f", "", openfeature.EvaluationContext{}), c.want)
	}
}

// A provider that is called without a client takes the context that With made.
func TestProviderWithoutFlatContext(t *testing.T) {
	f := serve(t, rule(`{"var":"v"}`))
	ctx := f.With(context.Background(), "", map[string]any{"v": "a"})
	p := f.Provider()
	mustBe(t, "no map", p.StringEvaluation(ctx, "f", "", nil).Value, "a")
	mustBe(t, "an empty map", p.StringEvaluation(ctx, "f", "", openfeature.FlattenedContext{}).Value, "none")
	mustBe(t, "a map", p.StringEvaluation(ctx, "f", "", openfeature.FlattenedContext{"v": "b"}).Value, "b")
}

// Whatever the content, a new process that takes it over gives what the old one gave.
func TestHandoverGivesSameValues(t *testing.T) {
	for _, targeting := range []string{
		`{"fractional":[["a",1],["b",2],["c",3]]}`,
		`{"if":[{"in":[{"var":"plan"},["pro","team"]]},{"fractional":[{"var":"plan"},["a",50],["b",50]]},"c"]}`,
		`{"if":[{">":[{"var":"age"},18]},"a",null]}`,
		`{"var":"plan"}`,
	} {
		content := rule(targeting)
		old, _ := served(t, content, flags.Options{})
		young := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
		testutil.HandOver(t, old, young)
		a, b := old.Status(), young.Status()
		if a.Version != b.Version || !a.Loaded.Equal(b.Loaded) || a.Source != b.Source || a.Flags != b.Flags {
			t.Fatalf("old %+v\nnew %+v", a, b)
		}
		for i := range 20 {
			key, attrs := fmt.Sprint("u", i), map[string]any{"plan": []string{"pro", "free", "a"}[i%3], "age": 10 + i}
			x := old.String(old.With(context.Background(), key, attrs), "f", "default")
			y := young.String(young.With(context.Background(), key, attrs), "f", "default")
			if x != y {
				t.Fatalf("%s for %q %v: %s before, %s after", content, key, attrs, x, y)
			}
		}
	}
}

// The key of a file's flag may be any text, and the error that names it shows it.
func TestAnyTextIsAKey(t *testing.T) {
	for _, key := range []string{"", "a.b", "with space", "ünï", `q"uote`, strings.Repeat("k", 1000)} {
		f := serve(t, fmt.Sprintf(`{"flags": {%q: {"state": "ENABLED", "variants": {"on": "on"}, "defaultVariant": "on"}}}`, key))
		mustBe(t, key, f.String(context.Background(), key, "default"), "on")
		d := f.StringFlag(key+"?", "default").Details(context.Background())
		mustHold(t, d.ResolutionDetail().ErrorMessage, key+"?")
	}
}

// An error of the file tells what it is about without its path, too, for pages that show both.
func TestErrorHasParts(t *testing.T) {
	cause := fmt.Errorf("cause")
	e := &flags.Error{Path: "p", Key: "k", Reason: "r", Err: cause}
	mustBe(t, "with a key", e.Error(), "flags: p: flag k: r")
	mustBe(t, "the cause", e.Unwrap(), cause)
	e.Key = ""
	mustBe(t, "without", e.Error(), "flags: p: r")
}

// Attributes of types that only their JSON explains are what that says, and those without JSON are null.
func TestAttributesOfOtherTypes(t *testing.T) {
	type plan struct {
		Name  string `json:"name"`
		Seats int    `json:"seats"`
	}
	for _, c := range []struct {
		attr any
		rule string
	}{
		{plan{"pro", 3}, `{"and":[{"===":[{"var":"x.name"},"pro"]},{"===":[{"var":"x.seats"},3]}]}`},
		{&plan{"pro", 3}, `{"===":[{"var":"x.name"},"pro"]}`},
		{(*plan)(nil), `{"===":[{"var":"x"},null]}`},
		{map[string]int{"n": 5}, `{">":[{"var":"x.n"},4]}`},
		{[]int{1, 2, 3}, `{"in":[3,{"var":"x"}]}`},
		{[2]string{"a", "b"}, `{"in":["b",{"var":"x"}]}`},
		{[]plan{}, `{"!":{"var":"x"}}`},
		{[]string{}, `{"!":{"var":"x"}}`},
		{[]string{""}, `{"!!":{"var":"x"}}`},
		{yesNo(true), `{"===":[{"var":"x"},true]}`},
		{int8(-1), `{"<":[{"var":"x"},0]}`},
		{uint64(1 << 63), `{">":[{"var":"x"},9e18]}`},
		{float32(0.5), `{"===":[{"var":"x"},0.5]}`},
		{map[string]any{"a": 1}, `{"!!":{"var":"x"}}`},
	} {
		f := serve(t, rule(`{"if":[`+c.rule+`,"a","b"]}`))
		ctx := f.With(context.Background(), "", map[string]any{"x": c.attr})
		mustBe(t, fmt.Sprintf("%s for %T", c.rule, c.attr), f.String(ctx, "f", "default"), "a")
	}
}

type yesNo bool

// The default variant answers where the rule gives null, and a rule without a default variant leaves that to the caller.
func TestNullIsDefaultVariantOrCallersDefault(t *testing.T) {
	const content = `{"flags": {"f": {"state": "ENABLED", %s "variants": {"a": "A", "b": "B"}, "targeting": {"if": [{"var": "x"}, "a"]}}}}`
	for preset, want := range map[string]string{`"defaultVariant": "b",`: "B", `"defaultVariant": null,`: "caller", `"defaultVariant": "",`: "caller", ``: "caller"} {
		f := serve(t, fmt.Sprintf(content, preset))
		h, on := f.StringFlag("f", "caller"), f.With(context.Background(), "", map[string]any{"x": true})
		mustBe(t, "chosen", h.Get(on), "A")
		mustBe(t, "null with "+preset, h.Get(context.Background()), want)
		d := h.Details(context.Background())
		mustBe(t, "the reason", d.Reason, openfeature.DefaultReason)
		mustBe(t, "the error", d.Error(), nil)
	}
}

// Metadata of the flag comes before that of the file, and both come with an answer that is an error as well.
func TestMetadataComesWithErrors(t *testing.T) {
	f := serve(t, kinds)
	d := f.StringFlag("bool", "").Details(context.Background())
	mustBe(t, "the reason", d.Reason, openfeature.ErrorReason)
	mustBe(t, "the flag's own", d.FlagMetadata["team"], any("cart"))
	mustBe(t, "the file's", d.FlagMetadata["set"], any(1.0))
	mustBe(t, "of another flag", f.StringFlag("string", "").Details(context.Background()).FlagMetadata["team"], any("shop"))
	mustBe(t, "of no flag", len(f.StringFlag("missing", "").Details(context.Background()).FlagMetadata), 0)
}
