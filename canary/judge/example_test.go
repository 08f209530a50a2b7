package judge_test

import (
	"fmt"

	"github.com/midair-go/midair/canary/judge"
)

// A canary that fails in each of its requests, at 5 % of the traffic, is found after a few of them.
func Example() {
	j, err := judge.New("salt of the cohort", judge.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 1000 {
		o := judge.Outcome{Unit: fmt.Sprint("user-", i), Weight: .05, Canary: i%20 == 19}
		if o.Canary {
			o.Result = judge.Bad
		}
		if !j.Observe(o) {
			continue
		}
		verdict := j.Verdict()
		fmt.Println("request", i, verdict)
		if verdict == judge.Regression {
			break
		}
	}
	// Output:
	// request 19 inconclusive
	// request 39 amber
	// request 59 regression
}

// A status explains the verdict: here, what a rollout without bad outcomes could have detected.
func ExampleAnalysis_Status() {
	j, err := judge.New("salt of the cohort", judge.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 10_000 {
		j.Observe(judge.Outcome{Unit: fmt.Sprint("user-", i), Weight: .05, Canary: i%20 == 0})
	}
	s := j.Status()
	fmt.Println(s.Verdict, s.NoPass)
	fmt.Printf("%d requests of the canary, detectable from %.2f %%\n", s.Canary.Requests, 100*s.Tests[0].DetectableRate)
	// Output:
	// inconclusive requests are routed by a key
	// 500 requests of the canary, detectable from 0.50 %
}
