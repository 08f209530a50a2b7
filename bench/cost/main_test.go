//go:build linux

package cost

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

var long = flag.Bool("midair.long", false, "20,000 idle connections and long runs: two minutes")

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() int{
		"net/http":      func() int { return exitCode(plainMain()) },
		"drain":         func() int { return exitCode(drainMain()) },
		"upgrade+drain": func() int { return exitCode(upgradeMain()) },
	})
}

func exitCode(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "main:", err)
		return 1
	}
	return 0
}
