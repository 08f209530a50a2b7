//go:build linux

package loss

import (
	"fmt"
	"os"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() int{
		"midair": func() int { return exitCode(midairMain()) },
		"plain":  func() int { return exitCode(plainMain()) },
	})
}

func exitCode(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "main:", err)
		return 1
	}
	return 0
}
