package process_test

import (
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// playStubborn is a part that only Linux has.
var playStubborn = func() {}

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) {
	playStubborn()
	playChild()
	testutil.Main(m, nil)
}
