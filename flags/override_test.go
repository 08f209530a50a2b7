package flags_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/open-feature/go-sdk/openfeature"
)

const targeted = `{"flags": {"cart": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
	"metadata": {"team": "shop"}, "targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}},
	"w": {"state": "DISABLED", "variants": {"none": 0, "all": 1}, "defaultVariant": "all"}}}`

// An override outranks targeting, guards and the state of the flag, by handle, by name, by client and as a weight, and says why in
// the reason and in the metadata. Restore ends it.
func TestOverrideOutranksEverything(t *testing.T) {
	f, path := served(t, targeted, flags.Options{Guards: []flags.Guard{flags.Guarded("cart", func() float64 { return 1 })}})
	ctx := f.With(context.Background(), "u", map[string]any{"plan": "pro"})
	h, weight, client := f.BoolFlag("cart", false), f.Weight("w", 0.5), f.Client()
	mustBe(t, "before", h.Get(ctx), true)
	mustBe(t, "the weight before", weight(), 0.5)
	check(t, f.Override("cart", "off", time.Time{}, "orders are lost"))
	check(t, f.Override("w", "none", time.Time{}, "stop"))
	mustBe(t, "in a request that has begun", h.Get(ctx), true)
	ctx = f.Renew(ctx)
	mustBe(t, "by handle", h.Get(ctx), false)
	mustBe(t, "by name", f.Bool(ctx, "cart", true), false)
	mustBe(t, "by client", client.Boolean(ctx, "cart", true, openfeature.EvaluationContext{}), false)
	mustBe(t, "the weight", weight(), 0)
	d := h.Details(ctx)
	mustBe(t, "the reason", d.Reason, "OVERRIDE")
	mustBe(t, "the variant", d.Variant, "off")
	mustBe(t, "the reason given", d.FlagMetadata["override.reason"], any("orders are lost"))
	mustBe(t, "the metadata of the flag", d.FlagMetadata["team"], any("shop"))
	s := f.Status()
	if o := s.Overrides["cart"]; o.Variant != "off" || o.Reason != "orders are lost" || o.PID != os.Getpid() || o.At.IsZero() || len(s.Overrides) != 2 {
		t.Errorf("the status has %+v", s.Overrides)
	}
	write(t, path, strings.Replace(targeted, "shop", "other", 1))
	f.Check()
	mustBe(t, "after a reload", h.Get(context.Background()), false)
	mustBe(t, "the metadata after a reload", h.Details(context.Background()).FlagMetadata["team"], any("other"))
	check(t, f.Restore("cart", "mended"))
	mustBe(t, "restored", h.Get(f.Renew(ctx)), true)
	mustBe(t, "the other one", weight(), 0)
	mustBe(t, "overrides left", len(f.Status().Overrides), 1)
}

// An override ends at its time, without any call.
func TestOverrideEndsAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := flags.Open("", flags.Options{Defaults: []byte(targeted), Poll: time.Hour, Logger: new(journal).logger()})
		check(t, err)
		defer f.Close()
		ctx := context.Background()
		check(t, f.Override("cart", "on", time.Now().Add(30*time.Minute), "a demo"))
		check(t, f.Override("w", "all", time.Now().Add(10*time.Minute), "a demo"))
		mustBe(t, "at once", f.Bool(ctx, "cart", false), true)
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		mustBe(t, "the other one has ended", f.Float(ctx, "w", 0.5), 0.5)
		mustBe(t, "before its end", f.Bool(ctx, "cart", false), true)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		mustBe(t, "after its end", f.Bool(ctx, "cart", true), false)
		mustBe(t, "overrides", len(f.Status().Overrides), 0)
	})
}

// What cannot be in force is an error that says what to do.
func TestOverrideOfWhatIsNotThereIsRefused(t *testing.T) {
	f := serve(t, targeted)
	for want, err := range map[string]error{
		"there is no such flag":               f.Override("none", "on", time.Time{}, ""),
		`no variant "blue", but ["off" "on"]`: f.Override("cart", "blue", time.Time{}, ""),
		"is over: give a later time":          f.Override("cart", "on", time.Now().Add(-time.Second), ""),
		"needs the key":                       f.Override("", "on", time.Time{}, ""),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, flags.ErrRefused) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	none := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	if err := none.Override("cart", "on", time.Time{}, ""); err == nil {
		t.Error("without values: no error")
	}
	mustBe(t, "overrides", len(f.Status().Overrides), 0)
}

// Processes of a service tell each other, and a new process knows what the old one knew, whichever way the state comes, and twice
// is once. An override that was made elsewhere at the same time outlives a Restore that did not know it.
func TestOverridesReachOtherProcesses(t *testing.T) {
	var sent [][]byte
	a, path := served(t, targeted, flags.Options{Name: "shop", Broadcast: func(name string, data []byte) error {
		mustBe(t, "the name", name, "shop")
		sent = append(sent, data)
		return nil
	}})
	b := open(t, path, flags.Options{})
	c := open(t, path, flags.Options{})
	check(t, a.Override("cart", "on", time.Time{}, "by a"))
	for range 2 {
		for _, data := range sent {
			check(t, b.UnmarshalBinary(data))
		}
	}
	mustBe(t, "by broadcast", cart(b), "on")
	testutil.HandOver(t, b, c)
	mustBe(t, "by upgrade", cart(c), "on")
	check(t, c.Override("cart", "off", time.Time{}, "by c"))
	check(t, a.Restore("cart", "mended"))
	mustBe(t, "restored where it was made", len(a.Status().Overrides), 0)
	for _, data := range sent {
		check(t, c.UnmarshalBinary(data))
	}
	mustBe(t, "the later one in the other process", c.Status().Overrides["cart"].Reason, "by c")
	testutil.HandOver(t, c, a)
	mustBe(t, "after an abort", a.Status().Overrides["cart"].Reason, "by c")
}

// Overrides outlive the process in a file. If the file cannot be written, the override is in force all the same, and the error and
// the status say so, until a later change has written both.
func TestOverridesOutliveTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	opts := flags.Options{OverrideFile: filepath.Join(dir, "override")}
	f, path := served(t, targeted, opts)
	err := f.Override("cart", "on", time.Time{}, "before the directory is there")
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, flags.ErrRefused) {
		t.Errorf("the error is %v", err)
	}
	mustBe(t, "in force", cart(f), "on")
	mustHold(t, f.Status().OverrideError, "override")
	check(t, os.Mkdir(dir, 0o700))
	check(t, f.Override("w", "none", time.Time{}, "now"))
	mustBe(t, "the error", f.Status().OverrideError, "")
	again := open(t, path, opts)
	mustBe(t, "after a restart", cart(again), "on")
	mustBe(t, "overrides after a restart", len(again.Status().Overrides), 2)
	check(t, os.WriteFile(opts.OverrideFile, []byte("damaged"), 0o600))
	third := open(t, path, opts)
	check(t, third.Ready(context.Background()))
	mustBe(t, "with a damaged file", len(third.Status().Overrides), 0)
	mustHold(t, third.Status().OverrideError, "damaged")
}

// An override for a flag or a variant that is gone from the file is a warning, and counts again when the flag is back.
func TestOverrideOfAVariantThatGoes(t *testing.T) {
	f, path := served(t, targeted, flags.Options{})
	check(t, f.Override("cart", "on", time.Time{}, ""))
	write(t, path, strings.ReplaceAll(targeted, `"on"`, `"yes"`))
	f.Check()
	mustBe(t, "without the variant", cart(f), "off")
	mustHold(t, fmt.Sprint(f.Status().Warnings), "override has no effect", `no variant "on"`)
	write(t, path, targeted)
	f.Check()
	mustBe(t, "with the variant again", cart(f), "on")
	write(t, path, `{"flags": {}}`)
	f.Check()
	mustBe(t, "without the flag", f.Bool(context.Background(), "cart", false), false)
}

// An override of a flag of a provider is a boolean for a caller who asks for one, and a text for a caller who asks for a text. A
// flag of a file has its type from the file.
func TestOverrideOfAProviderByOnAndOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	write(t, path, set(`"theme": {"state": "ENABLED", "variants": {"on": "on", "off": "off"}, "defaultVariant": "on"}`))
	f := hosting(t, "on", flags.Options{Overlays: []string{path}})
	ctx, client := context.Background(), f.Client()
	for _, c := range []struct {
		variant, text string
		want, def     bool
		code          openfeature.ErrorCode
	}{
		{"off", "off", false, true, ""},
		{"on", "on", true, false, ""},
		{"false", "", false, true, ""},
		{"true", "", true, false, ""},
		{`"false"`, "false", false, true, ""},
		{`"true"`, "true", true, false, ""},
		{"of", "of", true, true, openfeature.TypeMismatchCode},
		{"ON", "ON", false, false, openfeature.TypeMismatchCode},
		{"", "", true, true, openfeature.TypeMismatchCode},
		{"1", "", false, false, openfeature.TypeMismatchCode},
	} {
		check(t, f.Override("cart", c.variant, time.Time{}, ""))
		d := f.BoolFlag("cart", c.def).Details(ctx)
		code, _, _ := strings.Cut(d.ResolutionError.Error(), ":")
		if d.Value != c.want || openfeature.ErrorCode(code) != c.code || c.code == "" && d.Reason != "OVERRIDE" {
			t.Errorf("%s: the flag is %v, %s, %s, want %v, %s", c.variant, d.Value, d.Reason, code, c.want, c.code)
		}
		mustBe(t, c.variant+" by a client", client.Boolean(ctx, "cart", c.def, openfeature.EvaluationContext{}), c.want)
		mustBe(t, c.variant+" as a text", f.String(ctx, "cart", ""), c.text)
	}
	check(t, f.Override("cart", "off", time.Time{}, ""))
	mustBe(t, "as a number", f.Int(ctx, "cart", 7), 7)
	check(t, f.Override("theme", "off", time.Time{}, ""))
	mustBe(t, "a text of a file as a boolean", f.Bool(ctx, "theme", true), true)
	mustBe(t, "the text of the file", f.String(ctx, "theme", ""), "off")
}

// An override of another process, which has no such Var, is not in force where a Var refuses its value. Other overrides of the same
// struct are, and a warning names the override.
func TestOverrideFromElsewhereThatAVarRefuses(t *testing.T) {
	type config struct {
		N    int  `flag:"n"`
		Cart bool `flag:"cart"`
	}
	a, path := served(t, set(numbered("3", "-4"), onOff("cart")), flags.Options{})
	check(t, a.Override("n", "b", time.Time{}, "by a"))
	check(t, a.Override("cart", "off", time.Time{}, "by a"))
	b := open(t, path, flags.Options{})
	v, err := flags.Bind(b, config{}, flags.VarOptions[config]{Validate: func(c config) error {
		if c.N < 0 {
			return errors.New("n is negative")
		}
		return nil
	}})
	check(t, err)
	testutil.HandOver(t, a, b)
	mustBe(t, "the struct", v.Get(), config{N: 3, Cart: false})
	mustBe(t, "the refused override, by handle", b.IntFlag("n", 0).Get(context.Background()), 3)
	mustBe(t, "the other override, by handle", b.BoolFlag("cart", true).Get(context.Background()), false)
	mustHold(t, fmt.Sprint(b.Status().Warnings), "flag n", "its override has no effect", "n is negative")
	check(t, b.Restore("n", "mended"))
	check(t, b.Restore("cart", "mended"))
	mustBe(t, "the struct without overrides", v.Get(), config{N: 3, Cart: true})
}
