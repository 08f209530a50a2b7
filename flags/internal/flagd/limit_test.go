package flagd_test

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
)

var huge = flag.Bool("midair.huge", false, "load files of 100 MB and of a million flags, instead of a 25th of them")

// Loops over lists that are long, or in one another, end in a bounded time with an error, and so do texts that double.
func TestLoopsAreBounded(t *testing.T) {
	long := make([]any, 300_000)
	for i := range long {
		long[i] = "x"
	}
	big := strings.Repeat("y", 1<<20)
	a := attrs{"long": long, "short": long[:1000], "big": big, "typed": make([]struct{ A, B int }, 50_000), "names": long[:50_000], "twenty": long[:20_000]}
	for _, r := range []string{
		`{"map":[{"var":"long"},1]}`,
		`{"some":[{"var":"short"},{"some":[{"var":"short"},{"==":[{"var":""},"y"]}]}]}`,
		`{"filter":[{"var":"short"},{"in":["z",{"var":"big"}]}]}`,
		`{"filter":[{"var":"short"},{"in":["z",{"var":"long"}]}]}`,
		`{"none":[{"var":"short"},{"==":[{"var":"typed.0.A"},1]}]}`,
		`{"reduce":[{"var":"short"},{"cat":[{"var":"accumulator"},{"var":"accumulator"}]},"x"]}`,
		`{"map":[{"var":"short"},{"missing":{"var":"names"}}]}`,
		`{"all":[{"var":"long"},{"in":[{"var":""},["x"]]}]}`,
		`{"and":[` + strings.TrimSuffix(strings.Repeat(`{"all":[{"var":"short"},{"!==":[{"var":""},"y"]}]},`, 60), ",") + `]}`,
		`{"none":[{"var":"long"},{"or":[` + strings.TrimSuffix(strings.Repeat(`{"<":[{"var":""},"a"]},`, 5000), ",") + `]}]}`,
	} {
		f := served(t, parse(t, rule(r)), "f")
		began := time.Now()
		_, err := f.Target(env("u", a))
		took := time.Since(began)
		if !errors.Is(err, flagd.ErrRule) || !strings.Contains(err.Error(), fmt.Sprint("the loops take more than ", flagd.MaxSteps)) {
			if !strings.Contains(r, "missing") {
				t.Errorf("%.100s: %v", r, err)
			}
		}
		if took > 20*time.Second {
			t.Errorf("%.100s takes %v", r, took)
		}
		t.Logf("%-90.90s %v", r, took.Round(time.Microsecond))
	}
	// What is usual has room.
	for r, want := range map[string]string{
		`{"all":[{"var":"twenty"},{"==":[{"var":""},"x"]}]}`:                                                                          "true",
		`{"some":[{"var":"short"},{"in":[{"var":""},["a","b","c"]]}]}`:                                                                "false",
		`{"some":[{"filter":[{"var":"short"},{"==":[{"var":""},"x"]}]},{"and":[{"!==":[{"var":""},"y"]},{"!==":[{"var":""},"x"]}]}]}`: "false",
	} {
		mustBe(t, r, result(t, r, env("u", a)), want)
	}
}

// load parses a file, and prints how long this takes and how much memory stays.
func load(t *testing.T, name string, content []byte) (*flagd.Document, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	d, err := flagd.Parse(content, flagd.Options{})
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%-42s %6.1f MB: %8v, %6.0f MB kept, %6.0f MB allocated, error: %.90v", name, float64(len(content))/1e6, took.Round(time.Millisecond),
		float64(after.HeapAlloc)/1e6-float64(before.HeapAlloc)/1e6, float64(after.TotalAlloc-before.TotalAlloc)/1e6, err)
	if took > 2*time.Minute {
		t.Errorf("%s takes %v", name, took)
	}
	return d, err
}

// many is a file with n flags.
func many(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"flags": {`)
	for i := range n {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `"f%d": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "targeting": {"fractional": [["on", 1], ["off", 1]]}}`, i)
	}
	b.WriteString(`}}`)
	return []byte(b.String())
}

// Files that are very large or very deep load in a bounded time, or are refused with a reason. The figures are printed.
func TestHugeFiles(t *testing.T) {
	scale := 25
	switch {
	case *huge:
		scale = 1
	case testing.Short():
		scale = 200
	}
	flags := 1_000_000 / scale
	d, err := load(t, fmt.Sprintf("%d flags with a rule", flags), many(flags))
	if err != nil || len(d.Flags) != flags || len(d.Faults)+len(d.Warnings) != 0 {
		t.Fatalf("%v: %d flags, %d faults, %.200v", err, len(d.Flags), len(d.Faults), d.Warnings)
	}
	mustBe(t, "the last one", d.Flags[fmt.Sprint("f", flags-1)].Targeted(), true)
	d = nil

	size := 100_000_000 / scale
	refused := func(name, want, content string) {
		t.Helper()
		if _, err := load(t, name, []byte(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused("brackets without an end", "inside one another", strings.Repeat("[", size))
	refused("a million levels", "inside one another", `{"flags": {"f": `+strings.Repeat(`{"a":`, 1_000_000)+`1`+strings.Repeat("}", 1_000_000)+`}}`)
	refused("a text without an end", "ends in the middle", `{"flags": {"f": "`+strings.Repeat("x", size))
	refused("spaces", "it is empty", strings.Repeat(" ", size))

	faulty := func(name, want, targeting string) {
		t.Helper()
		d, err := load(t, name, []byte(with(targeting)))
		if want == "" && err == nil && d.Flags["bad"] != nil {
			return
		}
		if err != nil || d.Flags["good"] == nil || len(d.Faults) != 1 || !strings.Contains(d.Faults[0].Text, want) {
			t.Errorf("%s: %v %.200v", name, err, d)
		}
	}
	expressions := min(500_000, 12_500_000/scale)
	if !testing.Short() {
		faulty("a rule of many expressions", "more than 524288 values", `{"or": [`+strings.Repeat(`{},`, size/3)+`{}]}`)
		faulty("a list of many numbers", "more than 524288 values", `{"in": [1, [`+strings.Repeat(`1,`, size/2)+`1]]}`)
	}
	faulty(fmt.Sprint(expressions, " expressions"), "", `{"or": [`+strings.Repeat(`{},`, expressions)+`{}]}`)
	faulty("a rule 9000 levels deep", "inside one another", strings.Repeat(`{"!":`, 9000)+"1"+strings.Repeat("}", 9000))
	d, err = load(t, "one long text as a variant", []byte(one(`{"state": "ENABLED", "variants": {"a": "`+strings.Repeat("x", size)+`"}}`)))
	if err != nil || len(d.Flags["bad"].Variant("a").Text) != size {
		t.Error(err)
	}
}
