package judge_test

import (
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
)

// BenchmarkObserve measures what an outcome costs: good ones at one weight and at several, and bad ones. Of a bad one without
// a unit, a counter is all there is.
func BenchmarkObserve(b *testing.B) {
	const unit = "0123456789abcdef0123"
	for _, row := range []struct {
		name    string
		weights int
		o       judge.Outcome
	}{
		{"good", 1, judge.Outcome{Unit: unit, Weight: .05, Took: time.Millisecond}},
		{"good of the canary at 10 weights", 10, judge.Outcome{Weight: .05, Canary: true, Took: time.Millisecond}},
		{"bad", 1, judge.Outcome{Weight: .05, Canary: true, Result: judge.Bad, Took: time.Millisecond}},
		{"bad again", 1, judge.Outcome{Unit: unit, Weight: .05, Result: judge.Bad, Took: time.Millisecond}},
	} {
		b.Run(row.name, func(b *testing.B) {
			j := newJudge(b, judge.Options{})
			learn(j)
			for i := range row.weights {
				bad(j, float64(i+1)/100, false, 1)
			}
			j.Observe(row.o)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					j.Observe(row.o)
				}
			})
		})
	}
}

// BenchmarkAssigned measures the assignment of a unit that is known, and of a request without a unit.
func BenchmarkAssigned(b *testing.B) {
	for name, unit := range map[string]string{"unit": "0123456789abcdef0123", "no unit": ""} {
		b.Run(name, func(b *testing.B) {
			j := newJudge(b, judge.Options{})
			b.ReportAllocs()
			for b.Loop() {
				j.Assigned(unit, .05, false, time.Second)
			}
		})
	}
}

// BenchmarkBadRate measures the bounds of the rate, after a bad outcome.
func BenchmarkBadRate(b *testing.B) {
	j := newJudge(b, judge.Options{})
	fill(j, 1, 5000)
	b.ReportAllocs()
	for b.Loop() {
		j.BadRate()
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
