package session_test

import (
	"os"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sessiontest"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) {
	if sessiontest.Serve(func() (session.Store, error) { return session.Dir(os.Getenv("DIR")), nil }) {
		return
	}
	testutil.Main(m, map[string]func() int{
		"counter": counterRole,
		"writer":  writerRole,
		"holder":  holderRole,
		"keyed":   keyedRole,
		"pairs":   pairsRole,
	})
}
