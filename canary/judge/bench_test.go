package judge_test

import (
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
)

// BenchmarkObserve measures what an outcome costs: a good one, and a further bad one of a unit.
func BenchmarkObserve(b *testing.B) {
	for name, o := range map[string]judge.Outcome{
		"good":  {Unit: "0123456789abcdef0123", Weight: .05, Took: time.Millisecond},
		"again": {Unit: "0123456789abcdef0123", Weight: .05, Result: judge.Bad, Took: time.Millisecond},
	} {
		b.Run(name, func(b *testing.B) {
			j := newJudge(b, judge.Options{})
			learn(j)
			j.Observe(o)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					j.Observe(o)
				}
			})
		})
	}
}

// BenchmarkVerdict measures a verdict with evidence of all kinds at four weights, after a bad outcome.
func BenchmarkVerdict(b *testing.B) {
	j := newJudge(b, judge.Options{Slow: time.Second})
	learn(j)
	fill(j, 1, 5000)
	bad(j, .5, false, 10)
	b.ReportAllocs()
	for b.Loop() {
		bad(j, .05, false, 1)
		j.Verdict()
	}
}
