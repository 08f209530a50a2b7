package process_test

import (
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// The first restart comes at once. Each later restart waits longer than the one before, but never longer than the limit.
func TestPausesGrowToTheLimit(t *testing.T) {
	b := process.Backoff{First: 100 * time.Millisecond, Most: 10 * time.Second}
	for n, want := range map[int]time.Duration{
		-1: 0, 0: 0, 1: 0, 2: 100 * time.Millisecond, 3: 200 * time.Millisecond, 8: 6400 * time.Millisecond,
		9: 10 * time.Second, 30: 10 * time.Second, 1 << 30: 10 * time.Second,
	} {
		if got := b.Pause(n); got != want {
			t.Errorf("after %d failures: %v, want %v", n, got, want)
		}
	}
}
