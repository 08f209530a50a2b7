//go:build linux

package scale

import (
	"fmt"
	"os"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() int{
		"service": func() int { return exitCode(serviceMain()) },
		"busy":    busyMain,
		"grown":   func() int { return exitCode(grownMain()) },
		"flip":    func() int { return exitCode(flipMain()) },
	})
}

func exitCode(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "main:", err)
		return 1
	}
	return 0
}
