package judge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
)

// newJudge returns an Analysis of the salt "a".
func newJudge(t testing.TB, opts judge.Options) *judge.Analysis {
	t.Helper()
	j, err := judge.New("a", opts)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// bad observes n bad outcomes of requests without a unit.
func bad(j *judge.Analysis, weight float64, canary bool, n int) {
	for range n {
		j.Observe(judge.Outcome{Weight: weight, Canary: canary, Result: judge.Bad})
	}
}

// failed returns a bad outcome of a unit.
func failed(unit int, weight float64, canary bool, began time.Duration) judge.Outcome {
	return judge.Outcome{Unit: fmt.Sprint("unit", unit), Weight: weight, Canary: canary, Result: judge.Bad, Began: began}
}

// test returns the status of a test by its name.
func test(t testing.TB, s judge.Status, name string) judge.Test {
	t.Helper()
	for _, r := range s.Tests {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("there is no test %q", name)
	return judge.Test{}
}

// learn gives the judge the durations of stable from 1 ms to 1 s, of which it takes the thresholds 500, 900 and 990 ms.
func learn(j *judge.Analysis) {
	for i := range judge.Baseline {
		j.Observe(judge.Outcome{Took: time.Duration(i+1) * time.Millisecond})
	}
}

// took observes n requests of a duration, without a unit.
func took(j *judge.Analysis, canary bool, duration time.Duration, n int) {
	for range n {
		j.Observe(judge.Outcome{Weight: .05, Canary: canary, Took: duration})
	}
}
