//go:build linux

package upgrade_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

var keptMiB = flag.Int("midair.kept", 16, "how many MiB of kept state TestLargeStateTakesTwiceItsSize passes on")

// changeBlob makes a process change its blob, and returns the first byte of the blob in that process.
func changeBlob(t *testing.T, r *testclient.Service, pid int, version string) (first int) {
	t.Helper()
	testutil.Until(t, patience, version+" answers", func() (answered bool) {
		n, by := r.Post("/blob?pid=" + strconv.Itoa(pid))
		first = n
		return by == version
	})
	return first
}

// calls returns how often a process has called a method of the blob.
func calls(r *testclient.Service, pid int, what string) int {
	return strings.Count("\n"+r.Read("kept"), fmt.Sprintf("\n%d %s\n", pid, what))
}

// A value that the old process does not change during the upgrade is restored once, at the start. If it has the method Changes, it
// is also marshalled once only. If the candidate has changed it, the change stays. A value that the old process has changed is
// restored again at the commit.
func TestUnchangedValueIsRestoredOnce(t *testing.T) {
	for _, c := range []struct {
		name               string
		counts, both       bool
		marshals, restores int
	}{
		{"without Changes", false, false, 2, 1},
		{"with Changes", true, false, 1, 1},
		{"changed in both, without Changes", false, true, 2, 2},
		{"changed in both, with Changes", true, true, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { s.Soak, s.Kept, s.KeptCounts = time.Minute, 1<<20, c.counts })
			old := r.MainPID()
			candidate, done := r.Soaking()
			want := 0
			for range 2 {
				want = changeBlob(t, r, candidate, "g2")
			}
			if c.both {
				want = changeBlob(t, r, old, "g1")
			}
			r.Ask("POST", "/commit")
			if a := <-done; !a.Committed {
				t.Fatalf("%+v", a)
			}
			r.WaitFamily(t, 1, patience)
			if marshals, restores := calls(r, old, "marshals"), calls(r, candidate, "restores"); marshals != c.marshals || restores != c.restores {
				t.Errorf("marshalled %d times and restored %d times, want %d and %d", marshals, restores, c.marshals, c.restores)
			}
			if got, by := r.Post("/blob"); got < want || by != "g2" {
				t.Errorf("%s has %d changes, want %d of g2", by, got, want)
			}
		})
	}
}

// After an aborted upgrade the next candidate gets all values, also those that have not changed since.
func TestNextCandidateGetsUnchangedValues(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak, s.Kept, s.KeptCounts = time.Minute, 1<<20, true })
	want := changeBlob(t, r, r.MainPID(), "g1")
	_, done := r.Soaking()
	r.Ask("POST", "/abort")
	<-done
	r.WaitFamily(t, 1, patience)
	r.UpgradeNow()
	r.WaitFamily(t, 1, patience)
	if got, by := r.Post("/blob"); got < want || by != "g2" {
		t.Errorf("%s has %d changes, want %d of g2", by, got, want)
	}
}

// peak returns the most memory that a process has had.
func peak(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// peaks makes an upgrade with a blob of the given size. It returns by how much the peak of the old process has risen, and the peak
// of the new process.
func peaks(t *testing.T, size int) (risen, reached int) {
	t.Helper()
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak, s.Kept, s.Timeout = time.Minute, size, 5*time.Minute })
	old := r.MainPID()
	before := peak(t, old)
	candidate, done := r.Soaking()
	risen = peak(t, old) - before
	r.Ask("POST", "/commit")
	if a := <-done; !a.Committed {
		t.Fatalf("%+v", a)
	}
	return risen, peak(t, candidate)
}

// The new process needs the memory of the state twice: for the bytes that UnmarshalBinary gets, and for the value. The old process
// needs no memory beyond what MarshalBinary returns.
func TestLargeStateTakesTwiceItsSize(t *testing.T) {
	if raceDetector() {
		t.Skip("the race detector needs a multiple of the memory")
	}
	size := *keptMiB<<20 - 4096 // the default StateLimit is 64 MiB
	risenWithout, reachedWithout := peaks(t, 1)
	risen, reached := peaks(t, size)
	times := func(n int) float64 { return float64(n) / float64(size) }
	t.Logf("%d MiB of state: the new process reaches %.2f times as much, %.2f times more than without state; the old process rises by %.2f times, %.2f times more than without state",
		*keptMiB, times(reached), times(reached-reachedWithout), times(risen), times(risen-risenWithout))
	// One copy more would be 3 times in the new process, or once in the old process.
	if times(reached-reachedWithout) > 2.6 || times(risen-risenWithout) > 0.9 {
		t.Error("this is more than 2.6 times in the new process, or more than 0.9 times in the old process")
	}
}
