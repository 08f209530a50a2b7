package redisstore_test

import (
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session/sessiontest"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) {
	if sessiontest.Serve(openOther) {
		return
	}
	testutil.Main(m, nil)
}
