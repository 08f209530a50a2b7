package testutil_test

import (
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// Until returns as soon as its condition holds, and asks once even without time.
func TestUntilReturnsWhenConditionHolds(t *testing.T) {
	asked := 0
	testutil.Until(t, patience, "the third question", func() bool { asked++; return asked == 3 })
	if asked != 3 {
		t.Errorf("asked %d times, want 3", asked)
	}
	testutil.Until(t, 0, "nothing", func() bool { return true })
}

// Until fails with the name of what it waited for.
func TestUntilNamesWhatIsMissing(t *testing.T) {
	got := failure(t, func(t testing.TB) {
		testutil.Until(t, 10*time.Millisecond, "a miracle", func() bool { return false })
	})
	if !strings.Contains(got, "a miracle") {
		t.Errorf("failure %q does not name the miracle", got)
	}
}
