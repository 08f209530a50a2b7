package judge_test

import (
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) { testutil.Main(m, nil) }
