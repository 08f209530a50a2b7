package flags_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/memprovider"
)

// numbered is a flag "n" with the variants a and b. Variant a is the default.
func numbered(a, b string) string {
	return fmt.Sprintf(`"n": {"state": "ENABLED", "variants": {"a": %s, "b": %s}, "defaultVariant": "a"}`, a, b)
}

// onOff is a boolean flag that is on.
func onOff(key string) string {
	return fmt.Sprintf(`%q: {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}`, key)
}

// hosting returns Flags of a provider that has the flag "cart" with the variants on and off.
func hosting(t *testing.T, now string, opts flags.Options) *flags.Flags {
	t.Helper()
	p := memprovider.NewInMemoryProvider(map[string]memprovider.InMemoryFlag{
		"cart": {State: memprovider.Enabled, DefaultVariant: now, Variants: map[string]any{"on": true, "off": false}},
	})
	opts.Logger = new(journal).logger()
	f, err := flags.FromProvider(p, opts)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	check(t, f.Ready(context.Background()))
	return f
}

// A Var accepts the value of an override, and refuses what the file has got meanwhile. Restore ends the override all the same.
func TestRestoreEndsAnOverrideOverARefusedValue(t *testing.T) {
	f, path := served(t, set(numbered("3", "4")), flags.Options{})
	v := flags.NewVar(f, "n", 9, positive)
	check(t, f.Override("n", "b", time.Time{}, "an operator"))
	look(t, f, path, set(numbered("-5", "4")))
	mustBe(t, "the value of the override", v.Get(), 4)
	check(t, f.Restore("n", "mended"))
	mustBe(t, "overrides in Status", len(f.Status().Overrides), 0)
	d := f.IntFlag("n", -1).Details(context.Background())
	if d.Reason == "OVERRIDE" {
		t.Errorf("the override that was restored is in force: %d, %v", d.Value, d.FlagMetadata)
	}
	mustBe(t, "the last good value of the file", v.Get(), 3)
}

// The same for an override that ends at its time.
func TestAnOverrideEndsOverARefusedValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := served(t, set(numbered("3", "4")), flags.Options{})
		flags.NewVar(f, "n", 9, positive)
		check(t, f.Override("n", "b", time.Now().Add(time.Minute), "an operator"))
		look(t, f, path, set(numbered("-5", "4")))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if d := f.IntFlag("n", -1).Details(context.Background()); d.Reason == "OVERRIDE" {
			t.Errorf("the override is in force a minute after its end: %d, %v", d.Value, d.FlagMetadata)
		}
	})
}

// The kill switch of a flag works while another flag of the same struct is refused.
func TestOverrideBesideARefusedField(t *testing.T) {
	type config struct {
		N    int  `flag:"n"`
		Cart bool `flag:"cart"`
	}
	f, path := served(t, set(plain("n", "3"), onOff("cart")), flags.Options{})
	_, err := flags.Bind(f, config{}, flags.VarOptions[config]{})
	check(t, err)
	look(t, f, path, set(plain("n", `"three"`), onOff("cart")))
	check(t, f.Override("cart", "off", time.Time{}, "orders are lost"))
	mustBe(t, "overrides in Status", len(f.Status().Overrides), 1)
	mustBe(t, "the flag that was killed", f.Bool(context.Background(), "cart", true), false)
}

// An override outranks a Validate, or Override says that it does not.
func TestOverrideThatAVarRefusesIsNoSuccess(t *testing.T) {
	f, _ := served(t, set(numbered("3", "-4")), flags.Options{})
	flags.NewVar(f, "n", 9, positive)
	err := f.Override("n", "b", time.Time{}, "an operator")
	if n := f.Int(context.Background(), "n", 0); err == nil && n != -4 {
		t.Errorf("Override returned nil, Status has %d overrides, and the flag is %d", len(f.Status().Overrides), n)
	}
}

// Two processes with the same file, the same overrides and the same Var serve the same value.
func TestProcessesAgreeOnAnOverrideThatAVarRefuses(t *testing.T) {
	opts := flags.Options{OverrideFile: filepath.Join(t.TempDir(), "flags.override")}
	f, path := served(t, set(numbered("3", "-4")), opts)
	flags.NewVar(f, "n", 9, positive)
	_ = f.Override("n", "b", time.Time{}, "an operator") // an error would be an answer too
	restarted := open(t, path, opts)
	flags.NewVar(restarted, "n", 9, positive)
	ctx := context.Background()
	mustBe(t, "the flag after a restart", restarted.Int(ctx, "n", 0), f.Int(ctx, "n", 0))
}

// Overrides come through an upgrade also if a content of the other generation is not understood here.
func TestOverridesOutliveAContentThatIsNotUnderstood(t *testing.T) {
	old := serve(t, file("on"))
	check(t, old.Override("cart", "off", time.Time{}, "orders are lost"))
	data, err := old.MarshalBinary()
	check(t, err)
	data = resum(bytes.Replace(data, []byte(`{"flags"`), []byte(`["flags"`), 1))
	path := filepath.Join(t.TempDir(), "flags.json")
	write(t, path, "{")
	f := open(t, path, flags.Options{Defaults: []byte(file("on"))})
	err = f.UnmarshalBinary(data)
	if n := len(f.Status().Overrides); n != 1 || cart(f) != "off" {
		t.Errorf("UnmarshalBinary returned %v, and there are %d overrides: cart is %s", err, n, cart(f))
	}
}

// The content of a file goes to the same file in the next build, also if that build has no file of Open any more.
func TestAContentGoesToItsOwnFile(t *testing.T) {
	dir := t.TempDir()
	base, host := filepath.Join(dir, "flags.json"), filepath.Join(dir, "host.json")
	write(t, base, set(text("a", "base"), text("b", "base")))
	write(t, host, set(text("b", "host")))
	old := open(t, base, flags.Options{Overlays: []string{host}})
	data, err := old.MarshalBinary()
	check(t, err)
	write(t, host, "{")
	next := open(t, "", flags.Options{Defaults: []byte(set(text("a", "built in"))), Overlays: []string{host}})
	check(t, next.UnmarshalBinary(data))
	ctx := context.Background()
	mustBe(t, "a flag that no file of the new build has", next.String(ctx, "a", ""), "built in")
	mustBe(t, "the flag of the overlay", next.String(ctx, "b", ""), "host")
}

// A flag that only a Var refuses is in the file, so an operator can override it.
func TestOverrideOfAFlagThatAVarRefusesFromTheStart(t *testing.T) {
	f, path := served(t, set(plain("other", "1")), flags.Options{})
	v := flags.NewVar(f, "n", 9, positive)
	look(t, f, path, set(numbered("-5", "4")))
	check(t, f.Override("n", "b", time.Time{}, "an operator"))
	mustBe(t, "the value of the override", v.Get(), 4)
}

// A variant that the file has can be the variant of an override, also while a Var refuses the default variant.
func TestOverrideByAVariantOfARefusedDefinition(t *testing.T) {
	f, path := served(t, set(plain("n", "3")), flags.Options{})
	v := flags.NewVar(f, "n", 9, positive)
	look(t, f, path, set(numbered("-5", "4")))
	check(t, f.Override("n", "b", time.Time{}, "an operator"))
	mustBe(t, "the value of the override", v.Get(), 4)
}

// Remarks about a file do not tell the value of a secret flag.
func TestRemarksDoNotTellASecret(t *testing.T) {
	j := new(journal)
	f, _ := served(t, set(plain("pin", "12345678901234567891")), flags.Options{Logger: j.logger()})
	flags.NewVar(f, "pin", 0, flags.VarOptions[float64]{Secret: true})
	if text := strings.Join(j.lines(), " ") + fmt.Sprint(f.Status().Warnings); strings.Contains(text, "12345678901234567891") {
		t.Errorf("the secret is told: %s", text)
	}
}

// A flag of an overlay that was never good leaves the flag of the provider in place, as it leaves that of a file.
func TestAFaultInAnOverlayLeavesTheProvider(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	write(t, path, set(faulty("cart"), plain("other", "1")))
	f := hosting(t, "on", flags.Options{Overlays: []string{path}})
	d := f.BoolFlag("cart", false).Details(context.Background())
	if !d.Value {
		t.Errorf("the provider says on, and the answer is %v: %v", d.Value, d.ResolutionError)
	}
}

// A value that a Var refuses is a flag that is not what is served: Reload and Status tell so.
func TestReloadTellsOfARefusedValue(t *testing.T) {
	f, path := served(t, set(plain("n", "3")), flags.Options{})
	flags.NewVar(f, "n", 9, positive)
	replace(t, path, set(plain("n", "-5")))
	err := f.Reload()
	if st := f.Status(); err == nil || !strings.HasPrefix(st.State, "stale") {
		t.Errorf("Reload returned %v, the state is %q, the warnings are %v", err, st.State, st.Warnings)
	}
}

// Two checks in one request never disagree, also if the rule asks for the time.
func TestOneMomentHasOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := time.Now().Add(time.Second).Unix()
		f := serve(t, rule(fmt.Sprintf(`{"if": [{"<": [{"var": "$flagd.timestamp"}, %d]}, "a", "b"]}`, limit)))
		ctx := f.With(context.Background(), "u", nil)
		first := f.String(ctx, "f", "")
		time.Sleep(2 * time.Second)
		mustBe(t, "the second check", f.String(ctx, "f", ""), first)
	})
}

// The state of the flags reaches a listener that is slow, however many changes follow.
func TestStateEventsAreNotForgotten(t *testing.T) {
	f, path := served(t, file("on"), flags.Options{})
	p := f.Provider()
	check(t, p.(openfeature.StateHandler).Init(openfeature.EvaluationContext{}))
	look(t, f, path, "{")
	for i := range 20 {
		check(t, f.Override("cart", []string{"on", "off"}[i%2], time.Time{}, ""))
	}
	events := p.(openfeature.EventHandler).EventChannel()
	for {
		select {
		case e := <-events:
			if e.EventType == openfeature.ProviderStale {
				return
			}
		default:
			t.Fatal("the SDK never hears that the file is broken")
		}
	}
}

// Decode may evaluate flags, so by a client too. A Close meanwhile does not hang.
func TestCloseWhileDecodeEvaluatesByAClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	write(t, path, set(plain("n", "3"), onOff("cart")))
	f, err := flags.Open(path, flags.Options{Poll: time.Hour, Logger: new(journal).logger()}) // a clean-up would hang too
	check(t, err)
	client, closed, reloaded := f.Client(), make(chan struct{}), make(chan struct{})
	first := true
	flags.NewVar(f, "n", 9, flags.VarOptions[int]{Validate: func(int) error {
		if first {
			first = false
			return nil
		}
		go func() { f.Close(); close(closed) }()
		for end := time.Now().Add(time.Second); time.Now().Before(end); { // until Close holds the lock of the SDK
			client.Boolean(context.Background(), "cart", false, openfeature.EvaluationContext{})
		}
		return nil
	}})
	replace(t, path, set(plain("n", "4"), onOff("cart")))
	go func() { f.Reload(); close(reloaded) }()
	for what, done := range map[string]chan struct{}{"Reload": reloaded, "Close": closed} {
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s hangs, and so does each evaluation by the client", what)
		}
	}
}

// A guard that can have no effect is told, as a guard without its variant is.
func TestAGuardWithoutAFlagIsTold(t *testing.T) {
	guards := []flags.Guard{flags.Guarded("cart", func() float64 { return 1 })}
	for what, f := range map[string]*flags.Flags{
		"a provider": hosting(t, "off", flags.Options{Guards: guards}),
		"a file": func() *flags.Flags {
			f, _ := served(t, set(plain("other", "1")), flags.Options{Guards: guards})
			return f
		}(),
	} {
		ctx := f.With(context.Background(), "u", nil)
		if !f.Bool(ctx, "cart", false) && !strings.Contains(fmt.Sprint(f.Status().Warnings), "guard") {
			t.Errorf("%s: the guard has no effect, and no warning says so: %v", what, f.Status().Warnings)
		}
	}
}

// An override whose flag is gone has no effect, and a warning says so, as for a variant that is gone.
func TestAnOverrideWithoutItsFlagIsTold(t *testing.T) {
	f, path := served(t, file("on"), flags.Options{})
	check(t, f.Override("cart", "off", time.Time{}, "orders are lost"))
	look(t, f, path, set(plain("other", "1")))
	mustBe(t, "the flag", f.Bool(context.Background(), "cart", true), true)
	mustBe(t, "overrides in Status", len(f.Status().Overrides), 1)
	mustHold(t, fmt.Sprint(f.Status().Warnings), "override", "cart")
}

// The error of an Override of a flag that is refused does not say that there is no such flag.
func TestOverrideOfARefusedFlagSaysWhy(t *testing.T) {
	f, _ := served(t, set(faulty("cart"), plain("other", "1")), flags.Options{})
	err := f.Override("cart", "off", time.Time{}, "")
	if err == nil {
		t.Fatal("no error")
	}
	mustHold(t, err.Error(), "refused")
}

// A Warning of Lint, which has no path, is a line that people can read.
func TestAWarningWithoutAPath(t *testing.T) {
	all, err := flags.Lint(nil, []byte(set(faulty("cart"))))
	check(t, err)
	if text := all[0].String(); strings.Contains(text, ": :") {
		t.Errorf("the warning is %q", text)
	}
}

// A provider that panics has the error of a provider that fails, also at once.
func TestAProviderWhoseMetadataPanics(t *testing.T) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("FromProvider panics: %v", p)
		}
	}()
	f, err := flags.FromProvider(nameless{}, flags.Options{Logger: new(journal).logger()})
	if err == nil {
		f.Close()
	}
}

type nameless struct{ openfeature.NoopProvider }

func (nameless) Metadata() openfeature.Metadata { panic(errors.New("not connected")) }

// A reader never sees the new value of a field beside the old value of another field, also while a provider is being read.
func TestBindOfAProviderChangesAsAWhole(t *testing.T) {
	type config struct {
		A string `flag:"a"`
		B string `flag:"b"`
	}
	synctest.Test(t, func(t *testing.T) {
		p := &gated{value: "1", blocked: make(chan struct{}), release: make(chan struct{})}
		f, err := flags.FromProvider(p, flags.Options{Logger: new(journal).logger()})
		check(t, err)
		defer f.Close()
		check(t, f.Ready(context.Background()))
		v, err := flags.Bind(f, config{}, flags.VarOptions[config]{})
		check(t, err)
		synctest.Wait() // no reading is under way
		mustBe(t, "the first value", v.Get(), config{"1", "1"})
		p.change("2")
		<-p.blocked // one flag is read, the other one is not
		check(t, f.Override("something", "else", time.Time{}, ""))
		if c := v.Get(); c.A != c.B {
			t.Errorf("a field has the new value beside the old value of the other: %v", c)
		}
		close(p.release)
	})
}

// A gated provider has the same value for every flag. After a change, it waits at the second flag that it is asked for.
type gated struct {
	openfeature.NoopProvider
	mu               sync.Mutex
	value, first     string
	armed, told      bool
	blocked, release chan struct{}
}

func (g *gated) change(value string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.value, g.armed = value, true
}

func (g *gated) StringEvaluation(_ context.Context, key, _ string, _ openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	g.mu.Lock()
	value, wait := g.value, g.armed && g.first != "" && g.first != key
	if g.armed && g.first == "" {
		g.first = key
	}
	if wait && !g.told {
		g.told = true
		close(g.blocked)
	}
	g.mu.Unlock()
	if wait {
		<-g.release
	}
	return openfeature.StringResolutionDetail{Value: value, ProviderResolutionDetail: openfeature.ProviderResolutionDetail{
		Variant: value, Reason: openfeature.StaticReason}}
}
