package compat

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

var (
	flagdPairs = flag.Int("midair.pairs", 10_000, "how many pairs of a rule and a context the tests against flagd compare")
	flagdSeed  = flag.Uint64("midair.seed", 1, "seed of the tests against flagd; 0: another one each time")
	flagdOps   = flag.String("midair.ops", "", "the operators, with commas, that the tests against flagd use; empty: all")
)

const (
	rulesPerFile    = 250
	contextsPerRule = 16
)

func flagName(i int) string { return fmt.Sprintf("flag-%03d", i) }

// fuzzer is what a test against flagd makes of a seed.
func fuzzer(t *testing.T) *gen {
	seed := *flagdSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	t.Logf("-midair.seed=%d", seed)
	var ops []string
	if *flagdOps != "" {
		ops = strings.Split(*flagdOps, ",")
	}
	return newGen(seed, ops)
}

// compare evaluates pairs of flags and contexts with both and returns where they disagree.
func compare(t *testing.T, g *gen, flag func() (map[string]any, string), who func() map[string]any) []difference {
	t.Helper()
	var found []difference
	outcomes := map[string]int{}
	begin, pairs := time.Now(), 0
	for pairs < *flagdPairs {
		file, getters := g.file(rulesPerFile, flag)
		all := file["flags"].(map[string]any)
		s, err := openBoth(t, file)
		for refused := new(flags.Error); errors.As(err, &refused) && refused.Key != "" && g.ops != nil; s, err = openBoth(t, file) {
			delete(all, refused.Key)
			delete(getters, refused.Key)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range contextsPerRule {
			ec := who()
			for _, key := range slices.Sorted(maps.Keys(getters)) {
				getter := getters[key]
				d := difference{flag: all[key].(map[string]any), key: key, getter: getter, context: ec}
				if d.ours, d.theirs = s.ask(d); !d.ours.same(d.theirs) {
					found = append(found, d)
				}
				outcomes[d.theirs.kind()]++
				pairs++
			}
			s.routes(t, getters, ec)
		}
		s.close()
	}
	d := time.Since(begin)
	t.Logf("%d pairs in %v, %.0f a second, %d differ; outcomes %v", pairs, d.Round(time.Millisecond), float64(pairs)/d.Seconds(), len(found), outcomes)
	return found
}

func (o outcome) kind() string {
	if o.code != "" {
		return string(o.code)
	}
	return string(o.reason)
}

// routes checks that the getters, the handles and the client give what the provider gives, for a few of the flags.
func (s both) routes(t *testing.T, getters map[string]string, ec map[string]any) {
	t.Helper()
	key, _ := ec["targetingKey"].(string)
	attrs := maps.Clone(ec)
	delete(attrs, "targetingKey")
	ctx := s.flags.With(t.Context(), key, attrs)
	client := s.flags.Client()
	for i := range 20 {
		name := flagName(i * rulesPerFile / 20)
		if getters[name] != "boolean" {
			continue
		}
		def := fallback["boolean"].(bool)
		want := evaluate(s.ours, "boolean", name, ec).value.(bool)
		details, _ := client.BooleanValueDetails(ctx, name, def, openfeature.EvaluationContext{})
		if got := []bool{s.flags.Bool(ctx, name, def), s.flags.BoolFlag(name, def).Get(ctx), details.Value}; slices.Contains(got, !want) {
			t.Errorf("%s: the getter, the handle and the client give %v, the provider %v", name, got, want)
		}
	}
}

// TestTypedRulesAgreeWithFlagd compares rules whose operands have the types that the operators are made for. None may differ.
func TestTypedRulesAgreeWithFlagd(t *testing.T) {
	g := fuzzer(t)
	found := compare(t, g, g.typedFlag, g.context)
	shapes := map[string]bool{}
	for _, d := range found {
		if shape := d.shape(); !shapes[shape] && len(shapes) < 8 {
			shapes[shape] = true
			d = d.shrink(t)
			t.Errorf("%s\n%s", d.class(), d.report())
		}
	}
	if len(found) > 0 {
		t.Errorf("%d pairs differ", len(found))
	}
}

// report is the difference for whoever has to look at it.
func (d difference) report() string {
	return fmt.Sprintf("rule    %s\ncontext %s\ngetter  %s of %s\nours    %+v\nflagd   %+v", asJSON(d.rule()), asJSON(d.context), d.getter, d.key, d.ours, d.theirs)
}
