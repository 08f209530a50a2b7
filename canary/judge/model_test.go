package judge_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
)

// A model has the evidence of bad outcomes as the textbook has it: sums of logarithms, one for each alternative, in the order of
// the events.
type model struct {
	r0     float64
	logs   [9]float64
	failed map[string]bool
}

var factors = [9]float64{1.25, 1.5, 2, 3, 5, 10, 30, 100, 1e6}

func theta(r, w float64) float64 { return w * r / (w*r + 1 - w) }

func (m *model) observe(o judge.Outcome) {
	if o.Result == judge.Good || m.failed[o.Unit] {
		return
	}
	if o.Unit != "" {
		m.failed[o.Unit] = true
	}
	for i, f := range factors {
		null, other := theta(m.r0, o.Weight), theta(m.r0*f, o.Weight)
		if o.Canary {
			m.logs[i] += math.Log(other / null)
		} else {
			m.logs[i] += math.Log((1 - other) / (1 - null))
		}
	}
}

func (m *model) evidence() float64 {
	sum := 0.0
	for _, log := range m.logs {
		sum += math.Exp(log) / float64(len(m.logs))
	}
	return sum
}

// random returns an outcome that took no time.
func random(rng *rand.Rand, began time.Duration) judge.Outcome {
	o := judge.Outcome{
		Weight: []float64{.0001, .01, .05, .25, .5, .99}[rng.IntN(6)], Canary: rng.IntN(2) == 0,
		Result: judge.Result(rng.IntN(3)), Began: began,
	}
	if rng.IntN(2) == 0 {
		o.Unit = fmt.Sprint(rng.IntN(50))
	}
	return o
}

// After each outcome of random sequences, the evidence is that of the model: of requests with units and without, at weights
// that go up and down, at several tolerances, and with a handover now and then.
func TestEvidenceIsThatOfTheModel(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 6))
		opts := judge.Options{Tolerance: []float64{1, 1.25, 2}[seed%3]}
		j, m := newJudge(t, opts), model{r0: opts.Tolerance, failed: map[string]bool{}}
		for i := range 200 {
			o := random(rng, time.Duration(i))
			j.Observe(o)
			m.observe(o)
			if rng.IntN(20) == 0 {
				next := newJudge(t, opts)
				if err := next.UnmarshalBinary(marshal(t, j)); err != nil {
					t.Fatal(err)
				}
				j = next
			}
			if got, want := judge.BadEvidence(j), m.evidence(); math.Abs(got/want-1) > 1e-9 {
				t.Fatalf("seed %d, outcome %d: an evidence of %v, want %v", seed, i, got, want)
			}
		}
	}
}

// Events that wait are the same events: when all are settled, the evidence is that without waiting, though the outcomes came in
// another order.
func TestSettledEvidenceIsThatOfTheOrderOfTheRequests(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var all []judge.Outcome
		m := model{r0: 1.25, failed: map[string]bool{}}
		for i := range 300 {
			o := random(rng, time.Duration(i)*time.Second)
			all = append(all, o)
			m.observe(o)
		}
		for i := range all { // an outcome comes up to ten seconds later
			other := min(len(all)-1, i+rng.IntN(10))
			all[i], all[other] = all[other], all[i]
		}
		j := newJudge(t, judge.Options{Settle: 30 * time.Second})
		for i, o := range all {
			j.Observe(o)
			j.Settle(time.Duration(i) * time.Second)
		}
		j.Settle(time.Hour)
		if got, want := judge.BadEvidence(j), m.evidence(); math.Abs(got/want-1) > 1e-9 {
			t.Errorf("seed %d: an evidence of %v, want %v", seed, got, want)
		}
	}
}

// The outcomes of a rollout may be divided between processes in any way: the judge that has all deltas has the evidence of a
// single process.
func TestEvidenceOfSeveralProcessesIsThatOfOne(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 8))
		m := model{r0: 1.25, failed: map[string]bool{}}
		all := []*judge.Analysis{newJudge(t, judge.Options{}), newJudge(t, judge.Options{}), newJudge(t, judge.Options{})}
		for i := range 300 {
			o := random(rng, time.Duration(i))
			all[rng.IntN(len(all))].Observe(o)
			m.observe(o)
			if i%10 == 0 {
				ingest(t, all[0], all[1+rng.IntN(2)].Delta())
			}
		}
		for _, j := range all[1:] {
			ingest(t, all[0], j.Delta())
		}
		if got, want := test(t, all[0].Status(), "bad").Evidence, m.evidence(); math.Abs(got/want-1) > 1e-9 {
			t.Errorf("seed %d: an evidence of %v, want %v", seed, got, want)
		}
	}
}
