package migrate_test

import (
	"encoding/gob"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) {
	gob.Register(time.Time{}) // as both libraries want it
	testutil.Main(m, nil)
}
