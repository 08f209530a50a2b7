package judge_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/internal/testutil"
)

// fill observes n random outcomes: of units and without, at several weights, of all kinds.
func fill(j *judge.Analysis, seed uint64, n int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		o := judge.Outcome{
			Weight: []float64{.01, .05, .25}[rng.IntN(3)], Canary: rng.IntN(5) == 0, Result: judge.Result(rng.IntN(3)),
			Began: time.Duration(seed)<<32 + time.Duration(i), Took: time.Duration(rng.IntN(2000)) * ms,
		}
		if rng.IntN(2) == 0 {
			o.Unit = fmt.Sprint(rng.IntN(200))
		}
		j.Observe(o)
		j.Assigned(o.Unit, o.Weight, o.Canary, o.Began)
	}
}

func marshal(t testing.TB, j *judge.Analysis) []byte {
	t.Helper()
	data, err := j.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// text returns all of a status.
func text(t testing.TB, s judge.Status) string {
	t.Helper()
	all, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// same fails if the evidence of the two is not the same to the last bit.
func same(t testing.TB, what string, one, other *judge.Analysis) {
	t.Helper()
	if a, b := text(t, one.Status()), text(t, other.Status()); a != b {
		t.Errorf("%s:\n%s\n%s", what, a, b)
	}
	if !bytes.Equal(marshal(t, one), marshal(t, other)) {
		t.Errorf("%s: the states are not the same", what)
	}
}

// The evidence is the same to the last bit after a handover, in any number of processes, and goes on from there.
func TestEvidenceIsExactAfterHandovers(t *testing.T) {
	never := newJudge(t, judge.Options{Slow: time.Second})
	learn(never)
	last := newJudge(t, judge.Options{Slow: time.Second})
	testutil.HandOver(t, never, last) // the thresholds
	for i := range 5 {
		fill(never, uint64(i), 500)
		fill(last, uint64(i), 500)
		never.Verdict()
		next := newJudge(t, judge.Options{Slow: time.Second})
		last.Verdict()
		testutil.HandOver(t, last, next)
		same(t, fmt.Sprint("handover ", i), last, next)
		last = next
		a, b := never.Status(), last.Status()
		if a.Evidence != b.Evidence || a.Peak != b.Peak || a.Pass != b.Pass || a.Assignment != b.Assignment || a.Risk != b.Risk {
			t.Fatalf("handover %d:\n%+v\n%+v", i, a, b)
		}
	}
}

// The verdict passes to the next process.
func TestRegressionPassesToTheNextProcess(t *testing.T) {
	j, next := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	bad(j, .05, true, 10)
	j.Verdict()
	bad(j, .05, false, 10_000)
	testutil.HandOver(t, j, next)
	if s := next.Status(); s.Verdict != judge.Regression || s.Peak < 100 || s.Evidence > 1 {
		t.Errorf("got %+v", s)
	}
	testutil.HandOver(t, newJudge(t, judge.Options{}), next) // without evidence
	if v := next.Verdict(); v != judge.Regression {
		t.Errorf("an empty state has taken the verdict back: %v", v)
	}
}

// An upgrade passes the state at the hello and once more at the commit, and an abort passes it back. The new process has sent
// deltas before. Each outcome counts once all the same.
func TestEachOutcomeCountsOnceThroughCommitAndAbort(t *testing.T) {
	old, candidate := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	learn(old)
	fill(old, 1, 500)
	testutil.HandOver(t, old, candidate)
	fill(old, 2, 500)
	fill(candidate, 3, 500)
	ingest(t, old, candidate.Delta())
	oracle := newJudge(t, judge.Options{})
	learn(oracle)
	for seed := range 3 {
		fill(oracle, uint64(seed+1), 500)
	}
	equalCounts(t, "the old process", old, oracle)
	testutil.HandOver(t, old, candidate) // the commit
	equalCounts(t, "after the commit", candidate, oracle)
	testutil.HandOver(t, candidate, old) // the abort
	testutil.HandOver(t, candidate, old)
	equalCounts(t, "after the abort", old, oracle)
	fill(candidate, 4, 500)
	fill(oracle, 4, 500)
	ingest(t, old, candidate.Delta())
	testutil.HandOver(t, old, candidate)
	equalCounts(t, "after more", old, oracle)
	same(t, "both processes", old, candidate)
}

func ingest(t testing.TB, j *judge.Analysis, delta []byte) {
	t.Helper()
	if len(delta) >= 16<<10 {
		t.Errorf("a delta of %d bytes", len(delta))
	}
	if err := j.Ingest(delta); err != nil {
		t.Fatal(err)
	}
}

// equalCounts fails if one process does not count what the other has counted.
func equalCounts(t testing.TB, what string, got, want *judge.Analysis) {
	t.Helper()
	g, w := got.Status(), want.Status()
	g.Peak, w.Peak = 0, 0
	if got, want := text(t, g), text(t, w); got != want {
		t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

// Deltas may come twice, in any order, and by way of another process. Lost ones are made up for by the next ones.
func TestDeltasMayBeLostRepeatedAndReordered(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 9))
		sender, receiver := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
		var sent [][]byte
		for range 30 {
			fill(sender, rng.Uint64N(1000), 20)
			sent = append(sent, sender.Delta())
			if i := rng.IntN(len(sent)); rng.IntN(3) > 0 {
				ingest(t, receiver, sent[i])
			}
		}
		for range 20 { // the units of the lost deltas come in turn
			ingest(t, receiver, sender.Delta())
		}
		equalCounts(t, fmt.Sprint("seed ", seed), receiver, sender)
	}
}

// A delta has a limit. What has no room comes with the next deltas: many units, and many weights.
func TestDeltasAreSmall(t *testing.T) {
	sender, receiver := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	for i := range 2000 {
		sender.Observe(failed(i, float64(1+i%500)/1000, i%20 == 0, time.Duration(i)))
		bad(sender, float64(1+i%500)/1000, false, 1)
	}
	for range 40 {
		ingest(t, receiver, sender.Delta())
	}
	equalCounts(t, "40 deltas", receiver, sender)
}

// Two processes that take each other's evidence, in any order, end with the same.
func TestJoinIsIndependentOfTheOrder(t *testing.T) {
	one, other := newJudge(t, judge.Options{Slow: time.Second}), newJudge(t, judge.Options{Slow: time.Second})
	third := newJudge(t, judge.Options{Slow: time.Second})
	learn(one)
	testutil.HandOver(t, one, other)
	testutil.HandOver(t, one, third)
	fill(one, 1, 500)
	fill(other, 2, 500)
	fill(third, 3, 500)
	a, b, c := marshal(t, one), marshal(t, other), marshal(t, third)
	for i, order := range [][][]byte{{b, c, a, b}, {a, c, c, a}, {b, a, c, b}} {
		for _, data := range order {
			if err := []*judge.Analysis{one, other, third}[i].UnmarshalBinary(data); err != nil {
				t.Fatal(err)
			}
		}
	}
	same(t, "one and other", one, other)
	same(t, "one and third", one, third)
}

// Evidence about another cohort is never mixed in: a new rollout has a new salt.
func TestEvidenceOfAnotherSaltIsLeftOut(t *testing.T) {
	j := newJudge(t, judge.Options{})
	bad(j, .05, true, 10)
	j.Verdict()
	other := j.Again("b")
	testutil.HandOver(t, j, other)
	if s := other.Status(); s.Verdict != judge.Inconclusive || s.Canary.Bad != 0 {
		t.Errorf("got %+v", s)
	}
	if err := other.Ingest(j.Delta()); err == nil || !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("got %v", err)
	}
}

// Events of other thresholds are other events, and are not added. All else is. A bad outcome is an event of each threshold.
func TestExceedancesOfOtherThresholdsAreLeftOut(t *testing.T) {
	j, other := newJudge(t, judge.Options{}), newJudge(t, judge.Options{})
	learn(j)
	took(other, false, time.Minute, judge.Baseline)
	for _, a := range []*judge.Analysis{j, other} {
		took(a, true, time.Hour, 10)
		bad(a, .05, true, 3)
	}
	testutil.HandOver(t, other, j)
	s := j.Status()
	if !s.OtherThresholds || test(t, s, "p50").Canary != 13 || test(t, s, "bad").Canary != 6 {
		t.Errorf("got %+v", s)
	}
}

// A state that no process has written is refused, and changes nothing.
func TestDamagedStatesChangeNothing(t *testing.T) {
	j := newJudge(t, judge.Options{})
	learn(j)
	fill(j, 1, 50)
	good := marshal(t, j)
	empty := marshal(t, newJudge(t, judge.Options{}))
	target := newJudge(t, judge.Options{})
	before := marshal(t, target)
	for i := range good {
		damaged := bytes.Clone(good)
		damaged[i] ^= 1
		if target.UnmarshalBinary(damaged) == nil || target.Ingest(damaged) == nil || target.UnmarshalBinary(good[:i]) == nil {
			t.Fatalf("damage at byte %d was not found", i)
		}
	}
	if !bytes.Equal(marshal(t, target), before) {
		t.Error("a damaged state has changed the evidence")
	}
	if err := target.UnmarshalBinary(empty); err != nil {
		t.Error(err)
	}
}

// A state with a right checksum and a wrong content is refused, or is one.
func FuzzState(f *testing.F) {
	j := newJudge(f, judge.Options{})
	learn(j)
	fill(j, 1, 20)
	seed := marshal(f, j)
	f.Add(seed[:len(seed)-sha256.Size])
	f.Add([]byte("midair-judge\x00\x01"))
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		j := newJudge(t, judge.Options{})
		if j.Ingest(append(bytes.Clone(body), sum[:]...)) != nil {
			return
		}
		j.Status()
		other := newJudge(t, judge.Options{})
		testutil.HandOver(t, j, other)
		if !other.Status().OtherThresholds && other.Status().Evidence != j.Status().Evidence {
			t.Error("the evidence has changed")
		}
	})
}
