package canary

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Each bucket begins where the one before ends, and is at most an eighth of its beginning wide.
func TestBucketsLieEndToEnd(t *testing.T) {
	for b := range buckets - 1 {
		end := endOf(b)
		if got := bucketOf(end - 1); got != b {
			t.Errorf("%v is in bucket %d, want %d", end-1, got, b)
		}
		if got := bucketOf(end); got != b+1 {
			t.Errorf("%v is in bucket %d, want %d", end, got, b+1)
		}
		if b > 0 && end-endOf(b-1) > endOf(b-1)/8 {
			t.Errorf("bucket %d is from %v to %v", b, endOf(b-1), end)
		}
	}
	for _, d := range []time.Duration{-1, 0, 1} {
		if got := bucketOf(d); got != 0 {
			t.Errorf("%v is in bucket %d", d, got)
		}
	}
	if got := bucketOf(1<<63 - 1); got != buckets-1 {
		t.Errorf("the longest duration is in bucket %d of %d", got, buckets)
	}
}

// A quantile is never below that of the sorted durations, and at most an eighth above it.
func TestQuantilesAreThoseOfTheSortedDurations(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	for n := range 300 {
		all := tally{newShards()}
		durations := make([]time.Duration, n)
		for i := range durations {
			durations[i] = time.Duration(1<<lowest + draw.Int64N(1<<(11+draw.IntN(30))))
			all.add(&Outcome{Duration: durations[i]}, false)
		}
		slices.Sort(durations)
		got := all.status()
		for percent, q := range map[int]time.Duration{50: got.P50, 90: got.P90, 99: got.P99} {
			want := time.Duration(0)
			if n > 0 {
				want = durations[(n*percent+99)/100-1]
			}
			if q < want || q > want+want/8+1 {
				t.Errorf("%d durations: %d %% do not exceed %v, but P%d is %v", n, percent, want, percent, q)
			}
		}
		if got.Ended != uint64(n) {
			t.Errorf("%d of %d durations are counted", got.Ended, n)
		}
	}
}

// Counting an outcome allocates nothing.
func TestCountingAnOutcomeAllocatesNothing(t *testing.T) {
	all, o := tally{newShards()}, Outcome{Duration: time.Millisecond, Bytes: 1, Flags: TimedOut | Canceled}
	if n := testing.AllocsPerRun(100, func() { all.add(&o, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkOutcome is the counting of an outcome, without the two looks at the clock.
func BenchmarkOutcome(b *testing.B) {
	all := tally{newShards()}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		o := Outcome{Bytes: 100}
		for b.Loop() {
			o.Duration += 1000
			all.add(&o, false)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			o := Outcome{Bytes: 100}
			for pb.Next() {
				o.Duration += 1000
				all.add(&o, false)
			}
		})
	})
}
