//go:build linux

package upgrade_test

import (
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// After a crash the supervisor gives back every socket that it holds, more than a single message carries and more than an
// environment can name: no connection is refused, and clients that came meanwhile are answered.
func TestRestartGetsManySockets(t *testing.T) {
	t.Parallel()
	const many = 900
	r := testclient.Start(t, func(s *plan.Settings) { always(s); s.Many = many })
	r.WaitKnown()
	dead := r.MainPID()
	r.SignalMain(syscall.SIGKILL)
	for n := range many {
		c, err := net.Dial("unix", filepath.Join(r.Dir, strconv.Itoa(n)))
		if err != nil {
			t.Fatalf("socket %d: %v", n, err)
		}
		t.Cleanup(func() { c.Close() })
	}
	mustBeOneService(t, r, dead)
	dead = r.MainPID()
	r.Upgrade()
	r.WaitServing(3, dead)
	mustGreet(t, r, many)
	r.MustStop(syscall.SIGTERM)
}
