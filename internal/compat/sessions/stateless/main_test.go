package stateless_test

import (
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) { testutil.Main(m, map[string]func() int{"service": serviceRole}) }
