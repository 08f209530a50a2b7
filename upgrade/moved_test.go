//go:build linux

package upgrade_test

import (
	"fmt"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// Idle keep-alive connections pass to the new process with the commit: no client sees a close, and the next request on
// the same connection is answered by the new process, through any number of upgrades.
func TestIdleConnectionsFollowTheCommit(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	var conns []*peer
	for range 200 {
		conns = append(conns, r.dial())
	}
	for generation := 2; generation <= 4; generation++ {
		r.upgrade()
		r.WaitFamily(t, 1, patience)
		want := fmt.Sprint("g", generation)
		for i, p := range conns {
			if !p.open() {
				t.Fatalf("connection %d was closed by upgrade %d", i, generation-1)
			}
			if p.ask("/work"); p.by != want {
				t.Fatalf("%s answers, want %s", p.by, want)
			}
		}
	}
}

// The same under load: a client that keeps its connection never has to open another one.
func TestLoadKeepsItsConnections(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	l := r.load(testutil.LoadOptions{KeepAlive: 16, SlowEvery: 50})
	for range 10 {
		r.upgrade()
	}
	testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen("g11") })
	report := l.Stop()
	t.Logf("%d requests of 16 clients over 10 upgrades: %d connections opened", report.Total, report.Dials)
	if len(report.Failed) > 0 {
		t.Errorf("lost: %v", report.Failed[0])
	}
}
