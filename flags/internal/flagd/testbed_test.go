package flagd_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags/internal/flagd"
)

// cards splits by the key into four suits.
func cards(key string) string {
	return `[` + key + `,["clubs",25],["diamonds",25],["hearts",25],["spades",25]]`
}

// flagOf is a flag file with a string flag that has the variants and the default "fallback".
func flagOf(key, targeting string, variants ...string) string {
	var b strings.Builder
	for _, v := range append(variants, "fallback") {
		fmt.Fprintf(&b, `,%q:%q`, v, v)
	}
	return fmt.Sprintf(`{"flags": {%q: {"state": "ENABLED", "defaultVariant": "fallback", "variants": {%s}, "targeting": %s}}}`,
		key, b.String()[1:], targeting)
}

// The cases of flagd's conformance suite (open-feature/flagd-testbed) for strings, versions and weights come out as
// they do there.
func TestOperatorsAgreeWithConformanceSuite(t *testing.T) {
	version := func(v any) attrs { return attrs{"version": v} }
	relation := func(op, to string) string {
		return fmt.Sprintf(`{"if":[{"sem_ver":[{"var":"version"},%q,%q]},"yes","no"]}`, op, to)
	}
	affixes := `{"if":[{"starts_with":[{"var":"id"},"abc"]},"prefix",{"if":[{"ends_with":[{"var":"id"},"xyz"]},"postfix","none"]}]}`
	compared := `{"if":[{"sem_ver":[{"var":"version"},"=","2.0.0"]},"equal",{"if":[{"sem_ver":[{"var":"version"},">","2.0.0"]},
		"greater",{"if":[{"sem_ver":[{"var":"version"},"<","2.0.0"]},"lesser","none"]}]}]}`
	ranges := `{"if":[{"sem_ver":[{"var":"version"},"~","3.0.0"]},"minor",{"if":[{"sem_ver":[{"var":"version"},"^","3.0.0"]},"major","none"]}]}`
	nested := `{"fractional":[{"var":"targetingKey"},[{"if":[{"==":[{"var":"tier"},"premium"]},"premium","standard"]},50],["standard",50]]}`
	color := `{"fractional":[{"var":"targetingKey"},[{"var":"color"},50],["blue",50]]}`
	weight := `{"fractional":[{"var":"targetingKey"},["red",{"if":[{"==":[{"var":"tier"},"premium"]},100,0]}],["blue",10]]}`
	for _, c := range []struct {
		targeting, key string
		a              attrs
		want           string
	}{
		{affixes, "", attrs{"id": "abcdef"}, "prefix"},
		{affixes, "", attrs{"id": "uvwxyz"}, "postfix"},
		{affixes, "", attrs{"id": "abcxyz"}, "prefix"},
		{affixes, "", attrs{"id": "lmnopq"}, "none"},
		{`{"starts_with":[{"var":"num"},"abc"]}`, "", attrs{"num": 123}, "fallback"},
		{`{"ends_with":[{"var":"num"},"xyz"]}`, "", attrs{"num": 123}, "fallback"},
		{`{"starts_with":["abc"]}`, "", nil, "fallback"},
		{`{"ends_with":["xyz"]}`, "", nil, "fallback"},

		{compared, "", version("2.0.0"), "equal"},
		{compared, "", version("2.1.0"), "greater"},
		{compared, "", version("1.9.0"), "lesser"},
		{compared, "", version("2.0.0-alpha"), "lesser"},
		{compared, "", version("2.0.0.0"), "none"},
		{ranges, "", version("3.0.1"), "minor"},
		{ranges, "", version("3.1.0"), "major"},
		{ranges, "", version("4.0.0"), "none"},
		{`{"sem_ver":[{"var":"version"},"=","1.0.0"]}`, "", version("not-a-version"), "fallback"},
		{`{"sem_ver":[{"var":"version"},"===","1.0.0"]}`, "", version("1.0.0"), "fallback"},
		{`{"sem_ver":[{"var":"version"},"="]}`, "", version("1.0.0"), "fallback"},
		{relation("=", "v1.0.0"), "", version("1.0.0"), "yes"},
		{relation("=", "v1.0.0"), "", version("v1.0.0"), "yes"},
		{relation("=", "v1.0.0"), "", version("V1.0.0"), "yes"},
		{relation("=", "v1.0.0"), "", version("2.0.0"), "no"},
		{relation("^", "1"), "", version("1.5.0"), "yes"},
		{relation("^", "1"), "", version("1.0"), "yes"},
		{relation("^", "1"), "", version("1"), "yes"},
		{relation("^", "1"), "", version(1), "yes"},
		{relation("^", "1"), "", version(1.2), "yes"},
		{relation("^", "1"), "", version("2.0.0"), "no"},
		{relation(">", "1.1"), "", version(1.2), "yes"},
		{relation(">", "1.1"), "", version(1.1), "no"},
		{relation(">", "1.1"), "", version(2), "yes"},
		{relation(">", "1.1"), "", version(1), "no"},
		{relation(">", "1.1"), "", version("1.2"), "yes"},
		{relation("=", "1.0.0+build"), "", version("1.0.0"), "yes"},
		{relation("=", "1.0.0+build"), "", version("1.0.0+other"), "yes"},
		{relation("=", "1.0.0+build"), "", version("2.0.0"), "no"},

		{`{"fractional":[{"var":"missing_key"},["one",50],["two",50]]}`, "", nil, "fallback"},
		{`{"fractional":[{"var":"targetingKey"},["one",0],["two",0]]}`, "any-user", nil, "fallback"},
		{`{"fractional":[{"var":"targetingKey"},["one",-50],["two",100]]}`, "any-user", nil, "two"},
		{`{"fractional":[["single",1]]}`, "some-targeting-key", nil, "single"},
		{`{"fractional":[null,["one"]]}`, "", nil, "fallback"},
		{nested, "jon@company.com", attrs{"tier": "premium"}, "premium"},
		{nested, "jon@company.com", attrs{"tier": "basic"}, "standard"},
		{nested, "user1", attrs{"tier": "premium"}, "standard"},
		{color, "jon@company.com", attrs{"color": "red"}, "red"},
		{color, "user1", attrs{"color": "red"}, "blue"},
		{color, "jon@company.com", attrs{"color": "yellow"}, "choice"},
		{color, "jon@company.com", attrs{"color": ""}, "choice"},
		{weight, "jon@company.com", attrs{"tier": "premium"}, "red"},
		{weight, "jon@company.com", attrs{"tier": "basic"}, "blue"},
		{weight, "user1", attrs{"tier": "premium"}, "red"},
		{weight, "user1", attrs{"tier": "basic"}, "blue"},
		{`{"if":[{"fractional":[[false,0],[true,100]]},"yes","no"]}`, "some-targeting-key", nil, "yes"},
		{`{"if":[{"fractional":[[false,100],[true,0]]},"yes","no"]}`, "some-targeting-key", nil, "no"},
		{`{"if":[true,null,"one"]}`, "", nil, "fallback"},
		{`{"if":[true,"three","one"]}`, "", nil, "choice"},
		{`{"if":[true,true,false]}`, "", nil, "true"},
		{`{}`, "", nil, "fallback"},
	} {
		f := served(t, parse(t, flagOf("f", c.targeting, "prefix", "postfix", "none", "equal", "greater", "lesser", "minor", "major",
			"yes", "no", "one", "two", "single", "premium", "standard", "red", "green", "blue", "true", "false")), "f")
		mustBe(t, fmt.Sprint(c.targeting, " for ", c.key, c.a), choose(f, env(c.key, c.a)), c.want)
	}
}

// Each version of fractional puts people where the conformance suite has them.
func TestBucketingsArePinned(t *testing.T) {
	suits := []string{"clubs", "diamonds", "hearts", "spades"}
	seed := `{"cat":["shared-seed",{"var":"user.name"}]}`
	for _, c := range []struct {
		bucketing, key, args string
		variants             []string
		who                  func(string) flagd.Env
		want                 map[string]string
	}{
		{flagd.FractionalV1, "fractional-flag", cards(`{"cat":[{"var":"$flagd.flagKey"},{"var":"user.name"}]}`), suits, user,
			map[string]string{"jack": "spades", "queen": "clubs", "ten": "diamonds", "nine": "hearts", "3": "diamonds"}},
		{flagd.FractionalV2, "fractional-flag", cards(`{"cat":[{"var":"$flagd.flagKey"},{"var":"user.name"}]}`), suits, user,
			map[string]string{"jack": "hearts", "queen": "spades", "ten": "clubs", "nine": "diamonds", "3": "clubs"}},
		{flagd.FractionalV3, "fractional-flag", cards(`{"cat":[{"var":"$flagd.flagKey"},{"var":"user.name"}]}`), suits, user,
			map[string]string{"jack": "diamonds", "queen": "diamonds", "ten": "clubs", "nine": "clubs", "3": "spades"}},
		{flagd.FractionalV1, "fractional-flag-A-shared-seed", cards(seed), suits, user,
			map[string]string{"jack": "hearts", "queen": "spades", "ten": "hearts", "nine": "diamonds"}},
		{flagd.FractionalV3, "fractional-flag-A-shared-seed", cards(seed), suits, user,
			map[string]string{"seven": "hearts", "eight": "hearts", "nine": "diamonds", "two": "diamonds"}},
		{flagd.FractionalV1, "fractional-flag-shorthand", `[["heads"],["tails",1]]`, []string{"heads", "tails"}, keyed,
			map[string]string{"jon@company.com": "heads", "jane@company.com": "tails"}},
		{flagd.FractionalV3, "fractional-flag-shorthand", `[["heads"],["tails",1]]`, []string{"heads", "tails"}, keyed,
			map[string]string{"jon@company.com": "tails", "jane@company.com": "tails", "user-1": "heads", "user-2": "tails",
				"user-3": "heads", "": "fallback"}},
	} {
		content := flagOf(c.key, `{"fractional":`+c.args+`}`, c.variants...)
		byOption := served(t, parseWith(t, content, flagd.Options{Bucketing: c.bucketing}), c.key)
		byFile := served(t, parse(t, fmt.Sprintf(`{"metadata": {"midair.bucketing": %q}, %s`, c.bucketing, content[1:])), c.key)
		for in, want := range c.want {
			mustBe(t, c.bucketing+" "+c.key+" for "+in, choose(byOption, c.who(in)), want)
			mustBe(t, c.bucketing+" by the file "+c.key+" for "+in, choose(byFile, c.who(in)), want)
		}
	}
}
