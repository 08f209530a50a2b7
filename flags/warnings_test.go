package flags_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
)

// A weight that its author cannot have meant is the default, with a warning in Status that goes away when the file is mended, and one
// line in the log however often the file changes elsewhere.
func TestWeightsThatCannotBeMeant(t *testing.T) {
	rule := `"w": {"state": "ENABLED", "variants": {"v": 0.1, "x": 0.2}, "defaultVariant": "v", "targeting": {"if": [{"==": [{"var": "a"}, 1]}, "x"]}}`
	for what, c := range map[string]struct{ flag, warning string }{
		"5 instead of 0.05": {plain("w", "5"), "it is read as a weight, but its value 5 is not from 0 to 1: 5 % is 0.05"},
		"negative":          {plain("w", "-0.1"), "it is read as a weight, but its value -0.1 is not from 0 to 1"},
		"targeting":         {rule, "it has targeting, but its value is for everybody"},
		"a text":            {text("w", "0.5"), "it is read as a weight, but it is a string"},
		"a boolean":         {plain("w", "true"), "it is read as a weight, but it is a boolean"},
	} {
		t.Run(what, func(t *testing.T) {
			var j journal
			f, path := served(t, set(plain("w", "0.25")), flags.Options{Logger: j.logger()})
			weight := f.Weight("w", 0.5)
			f.Weight("w", 0.5)
			mustBe(t, "the good weight", weight(), 0.25)
			for i := range 3 {
				look(t, f, path, set(c.flag, plain("v", "5"), text("a", fmt.Sprint(i))))
				mustBe(t, "the weight", weight(), 0.5)
				mustHold(t, warned(f), path, "flag w: "+c.warning)
				mustBe(t, "the number of warnings", len(f.Status().Warnings), 1)
			}
			late := f.Weight("v", 0.5) // a second warning does not repeat the first one
			mustBe(t, "the second weight", late(), 0.5)
			mustBe(t, "the number of warnings", len(f.Status().Warnings), 2)
			look(t, f, path, set(plain("w", "0.75"), plain("v", "5")))
			mustBe(t, "the weight", weight(), 0.75)
			look(t, f, path, set(plain("w", "0.75"), plain("v", "0.5")))
			mustBe(t, "the warnings", warned(f), "")
			all := strings.Join(j.lines(), "\n")
			mustBe(t, "the lines about w", strings.Count(all, "key=w"), 1)
			mustBe(t, "the lines about v", strings.Count(all, "key=v"), 1)
			look(t, f, path, set(c.flag))
			mustBe(t, "the lines about w when it comes again", strings.Count(strings.Join(j.lines(), "\n"), "key=w"), 2)
			mustBe(t, "the state", f.Status().State, "ready")
		})
	}
}

// A weight that is missing or switched off on purpose is the default without a warning. The bounds are weights.
func TestWeightsWithoutAWarning(t *testing.T) {
	for content, want := range map[string]float64{
		set():                 0.5,
		set(plain("w", "0")):  0,
		set(plain("w", "1")):  1,
		set(plain("w", "-0")): 0,
		set(strings.Replace(plain("w", "0.25"), "ENABLED", "DISABLED", 1)):  0.5,
		set(`"w": {"state": "ENABLED", "variants": {"v": 0.25}}`):           0.5,
		set(plain("x", "5"), text("y", "not a weight"), plain("w", "0.25")): 0.25,
	} {
		f := serve(t, content)
		mustBe(t, content, f.Weight("w", 0.5)(), want)
		mustBe(t, "the warnings of "+content, warned(f), "")
	}
	f := serve(t, set())
	for _, bad := range []float64{5, -1, math.NaN(), math.Inf(1)} {
		mustBe(t, fmt.Sprint("the default ", bad), f.Weight("w", bad)(), 0)
	}
}

// A weight that is asked for before there is a file, and one whose key has a handle already, follow the file like any other.
func TestWeightsAreKnownLate(t *testing.T) {
	path := t.TempDir() + "/flags.json"
	f := open(t, path, flags.Options{})
	early := f.Weight("w", 0.5)
	mustBe(t, "before", early(), 0.5)
	h := f.FloatFlag("v", -1)
	look(t, f, path, set(plain("w", "0.25"), plain("v", "0.75")))
	late := f.Weight("v", 0.5)
	mustBe(t, "the weights", fmt.Sprint(early(), late(), h.Get(context.Background())), "0.25 0.75 0.75")
	look(t, f, path, set(plain("w", "0.5"), plain("v", "1")))
	mustBe(t, "the weights", fmt.Sprint(early(), late(), h.Get(context.Background())), "0.5 1 1")
}

// Many warnings are some lines in the log, a line that counts the others, and all of them in Status.
func TestManyWarningsAreCounted(t *testing.T) {
	var j journal
	f, path := served(t, set(), flags.Options{Logger: j.logger()})
	var all []string
	for i := range 50 {
		all = append(all, faulty(fmt.Sprintf("f%02d", i)))
	}
	look(t, f, path, set(all...))
	mustBe(t, "the warnings in Status", len(f.Status().Warnings), 50)
	lines := strings.Join(j.lines(), "\n")
	mustBe(t, "the warnings in the log", strings.Count(lines, "refused: "), 10)
	mustHold(t, lines, "more warnings are in Status", "count=40")
	look(t, f, path, set(append(all, faulty("f99"))...))
	lines = strings.Join(j.lines(), "\n")
	mustBe(t, "the warnings in the log", strings.Count(lines, "refused: "), 11)
}
