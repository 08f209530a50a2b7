package flags_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
)

// random makes rules and contexts.
type random struct{ *rand.Rand }

func (r random) pick(from ...string) string { return from[r.IntN(len(from))] }

func (r random) literal() string {
	return r.pick(`1`, `0`, `-2.5`, `"a"`, `"b"`, `""`, `"10"`, `true`, `false`, `null`, `[]`, `["a",1]`)
}

func (r random) expression(depth int) string {
	if depth == 0 || r.IntN(5) == 0 {
		if r.IntN(2) == 0 {
			return r.literal()
		}
		return fmt.Sprintf(`{"var":%s}`, r.pick(`"s"`, `"n"`, `"b"`, `"l"`, `"o.p"`, `"x"`, `"targetingKey"`, `["y",1]`))
	}
	e := func() string { return r.expression(depth - 1) }
	switch op := r.pick("==", "!=", "===", "!==", "<", "<=", ">", ">=", "in", "and", "or", "!", "!!", "cat", "if"); op {
	case "!", "!!":
		return fmt.Sprintf(`{%q:[%s]}`, op, e())
	case "if", "and", "or", "cat":
		return fmt.Sprintf(`{%q:[%s,%s,%s]}`, op, e(), e(), e())
	default:
		return fmt.Sprintf(`{%q:[%s,%s]}`, op, e(), e())
	}
}

func (r random) result(depth int) string {
	if depth == 0 {
		return r.pick(`"a"`, `"b"`, `"c"`, `null`, `{"var":"v"}`)
	}
	if r.IntN(3) == 0 {
		return fmt.Sprintf(`{"fractional":[[%s,%d],[%s,%d]]}`, r.result(depth-1), r.IntN(10)+1, r.result(depth-1), r.IntN(10))
	}
	return fmt.Sprintf(`{"if":[%s,%s,%s]}`, r.expression(3), r.result(depth-1), r.result(depth-1))
}

func (r random) context() (string, map[string]any) {
	attrs := map[string]any{}
	for name, values := range map[string][]any{
		"s": {"a", "b", "", "10"}, "n": {0, 1, 10.5, -2.5, uint8(1)}, "b": {true, false}, "l": {[]any{"a", 1.0}, []string{"b"}, []any{}},
		"o": {map[string]any{"p": "a"}, map[string]any{}, "text"}, "v": {"a", "c", "nope", nil, 1},
	} {
		if r.IntN(3) > 0 {
			attrs[name] = values[r.IntN(len(values))]
		}
	}
	return r.pick("", "u1", "u2", "someone@example.org"), attrs
}

// Whatever the rule and the context, the client of the SDK gives what the handle gives: value, variant, reason, metadata
// and error.
func TestClientAgreesWithHandle(t *testing.T) {
	r := random{rand.New(rand.NewPCG(7, 11))}
	f, path := served(t, rule(`{}`), flags.Options{})
	client, h := f.Client(), f.StringFlag("f", "default")
	reasons := map[openfeature.Reason]int{}
	for i := range 400 {
		content := rule(r.result(3))
		replace(t, path, content)
		f.Check()
		if state := f.Status(); state.State != "ready" {
			t.Fatalf("%s: %s", content, state.State)
		}
		for range 5 {
			key, attrs := r.context()
			ctx := f.With(context.Background(), key, attrs)
			want := h.Details(ctx)
			byCtx, _ := client.StringValueDetails(ctx, "f", "default", openfeature.EvaluationContext{})
			byCall, _ := client.StringValueDetails(context.Background(), "f", "default", openfeature.NewEvaluationContext(key, attrs))
			for _, got := range []openfeature.StringEvaluationDetails{byCtx, byCall} {
				if got.Value != want.Value || !reflect.DeepEqual(got.ResolutionDetail, want.ResolutionDetail()) {
					t.Fatalf("%d: %s\nfor %q %v:\nSDK    %+v\nhandle %+v", i, content, key, attrs, got.ResolutionDetail, want.ResolutionDetail())
				}
			}
			if got := f.String(ctx, "f", "default"); got != want.Value {
				t.Fatalf("by name: %s, by handle: %s", got, want.Value)
			}
			reasons[want.Reason]++
		}
	}
	for _, reason := range []openfeature.Reason{openfeature.TargetingMatchReason, openfeature.DefaultReason, openfeature.ErrorReason} {
		if reasons[reason] < 20 {
			t.Errorf("only %d of %s: %v", reasons[reason], reason, reasons)
		}
	}
}

// Every type comes through the SDK as it comes directly.
func TestClientAgreesForAllTypes(t *testing.T) {
	f, ctx, ec := serve(t, kinds), context.Background(), openfeature.EvaluationContext{}
	client := f.Client()
	for _, key := range []string{"bool", "string", "float", "int", "whole", "huge", "object", "disabled", "open", "targeted", "missing"} {
		b, _ := client.BooleanValueDetails(ctx, key, true, ec)
		s, _ := client.StringValueDetails(ctx, key, "def", ec)
		n, _ := client.FloatValueDetails(ctx, key, 7, ec)
		i, _ := client.IntValueDetails(ctx, key, 7, ec)
		o, _ := client.ObjectValueDetails(ctx, key, 7, ec)
		for _, c := range []struct{ got, want any }{
			{b.Value, f.Bool(ctx, key, true)}, {s.Value, f.String(ctx, key, "def")}, {n.Value, f.Float(ctx, key, 7)}, {i.Value, f.Int(ctx, key, 7)}, {o.Value, f.Object(ctx, key, 7)},
			{b.ResolutionDetail, f.BoolFlag(key, true).Details(ctx).ResolutionDetail()}, {o.ResolutionDetail, f.ObjectFlag(key, 7).Details(ctx).ResolutionDetail()},
			{s.ResolutionDetail, f.StringFlag(key, "def").Details(ctx).ResolutionDetail()}, {n.ResolutionDetail, f.FloatFlag(key, 7).Details(ctx).ResolutionDetail()},
			{i.ResolutionDetail, f.IntFlag(key, 7).Details(ctx).ResolutionDetail()},
		} {
			if !reflect.DeepEqual(c.got, c.want) {
				t.Errorf("%s: SDK %v, directly %v", key, c.got, c.want)
			}
		}
	}
}

// listen sends the events of a client to a channel.
func listen(t *testing.T, client *openfeature.Client) func(openfeature.EventType) openfeature.EventDetails {
	type event struct {
		openfeature.EventType
		openfeature.EventDetails
	}
	events := make(chan event, 100)
	for _, e := range []openfeature.EventType{openfeature.ProviderReady, openfeature.ProviderStale, openfeature.ProviderError, openfeature.ProviderConfigChange} {
		fn := func(d openfeature.EventDetails) { events <- event{e, d} }
		client.AddHandler(e, &fn)
		t.Cleanup(func() { client.RemoveHandler(e, &fn) })
	}
	var early []event // the SDK starts a goroutine for each event: their order is not certain
	return func(want openfeature.EventType) openfeature.EventDetails {
		t.Helper()
		for i, e := range early {
			if e.EventType == want {
				early = slices.Delete(early, i, i+1)
				return e.EventDetails
			}
		}
		limit := time.After(20 * time.Second)
		for {
			select {
			case e := <-events:
				if e.EventType == want {
					return e.EventDetails
				}
				early = append(early, e)
			case <-limit:
				t.Fatalf("no %s", want)
			}
		}
	}
}

// The SDK hears of changes with the names of the flags, of a file that is refused, and that it is good again, also when
// nothing changed. A client is of use before there are values, and says when there are.
func TestEventsTellTheSDK(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	f := open(t, path, flags.Options{})
	client := f.Client()
	await := listen(t, client)
	mustBe(t, "the name", await(openfeature.ProviderError).ProviderName, "midair")
	mustBe(t, "without values", client.Boolean(context.Background(), "cart", true, openfeature.EvaluationContext{}), true)
	put := func(content string) { replace(t, path, content); f.Check() }
	put(file("on"))
	mustBe(t, "the changes", fmt.Sprint(await(openfeature.ProviderConfigChange).FlagChanges), "[cart]")
	await(openfeature.ProviderReady)
	put("{")
	mustHold(t, await(openfeature.ProviderStale).Message, "ends in the middle")
	mustBe(t, "the state", client.State(), openfeature.StaleState)
	mustBe(t, "stale", client.Boolean(context.Background(), "cart", false, openfeature.EvaluationContext{}), true)
	put(file("on"))
	await(openfeature.ProviderReady)
	mustBe(t, "the state", client.State(), openfeature.ReadyState)
	put(file("off"))
	await(openfeature.ProviderConfigChange)
	check(t, os.Remove(path))
	f.Check()
	await(openfeature.ProviderStale)
	check(t, f.UnmarshalBinary(kept(t, number("1"))))
	mustBe(t, "the changes", fmt.Sprint(await(openfeature.ProviderConfigChange).FlagChanges), "[cart w]")
}

// A provider serves an API of the program's own, one provider for one API, and what nobody listens to is forgotten.
func TestProviderServesOwnAPI(t *testing.T) {
	f, path := served(t, file("on"), flags.Options{})
	first, second := isolated.NewAPI(), isolated.NewAPI()
	for _, api := range []*openfeature.EvaluationAPI{first, second} {
		check(t, api.SetProviderAndWait(context.Background(), f.Provider(), openfeature.WithDomain("shop")))
		mustBe(t, "the flag", api.NewClient(openfeature.WithDomain("shop")).Boolean(context.Background(), "cart", false, openfeature.EvaluationContext{}), true)
	}
	check(t, first.Shutdown(context.Background()))
	check(t, second.Shutdown(context.Background()))

	p := f.Provider()
	mustBe(t, "hooks", len(p.Hooks()), 0)
	handler := p.(openfeature.StateHandler)
	check(t, handler.Init(openfeature.EvaluationContext{}))
	for i := range 100 { // the first is about both flags, the others about one
		replace(t, path, number(fmt.Sprint(i)))
		f.Check()
	}
	events := p.(openfeature.EventHandler).EventChannel()
	if n := len(events); n == 0 || n == 100 {
		t.Errorf("%d events wait", n)
	}
	replace(t, path, file("off"))
	f.Check()
	var last openfeature.Event
	for len(events) > 0 {
		last = <-events
	}
	mustBe(t, "the changes of the last event", fmt.Sprint(last.FlagChanges), "[cart w]")
	replace(t, path, file("on"))
	f.Check()
	mustBe(t, "the changes after that", fmt.Sprint((<-events).FlagChanges), "[cart]")
	handler.Shutdown()
	replace(t, path, number("1"))
	f.Check()
	mustBe(t, "events after the shutdown", len(events), 0)
}

// A provider without values fails to start and tells why; it is ready when there are values.
func TestProviderWithoutValuesTellsWhy(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	api := isolated.NewAPI()
	defer api.Shutdown(context.Background())
	err := api.SetProviderAndWait(context.Background(), f.Provider())
	if err == nil {
		t.Fatal("ready without values")
	}
	mustHold(t, err.Error(), "midair", "no such file")
}

// A client that is made after Close evaluates and leaves nothing running, and so does one that was made before.
func TestClientSurvivesClose(t *testing.T) {
	f := serve(t, file("on"))
	before := f.Client()
	check(t, f.Close())
	closed := serve(t, file("on"))
	check(t, closed.Close())
	for _, client := range []*openfeature.Client{before, f.Client(), closed.Client(), closed.Client()} {
		mustBe(t, "the flag", client.Boolean(context.Background(), "cart", false, openfeature.EvaluationContext{}), true)
	}
}

// Validate may make the first client: the start of the provider of the client does not wait for the reload under way.
func TestFirstClientInValidate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	write(t, path, set(plain("n", "3"), onOff("cart")))
	f, err := flags.Open(path, flags.Options{Poll: time.Hour, Logger: new(journal).logger()}) // a clean-up would hang too
	check(t, err)
	ctx, asked, on := context.Background(), make(chan struct{}), false
	flags.NewVar(f, "n", 9, flags.VarOptions[int]{Validate: func(n int) error {
		if n == 4 {
			on = f.Client().Boolean(ctx, "cart", false, openfeature.EvaluationContext{})
			close(asked)
		}
		return nil
	}})
	replace(t, path, set(plain("n", "4"), onOff("cart")))
	go f.Check()
	select {
	case <-asked:
		mustBe(t, "the flag by the client", on, true)
		check(t, f.Close())
	case <-time.After(10 * time.Second):
		t.Fatal("Validate waits for its own reload")
	}
}
