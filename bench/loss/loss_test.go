//go:build linux

package loss

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var (
	upgrades    = flag.Int("midair.upgrades", 10, "how many upgrades each service makes")
	progressive = flag.Int("midair.progressive", 5, "how many progressive upgrades there are")
	between     = flag.Int64("midair.requests", 20, "how many requests of each kind are answered between two upgrades, at least")
)

const patience = 30 * time.Second

// run is one protocol over one distance.
type run struct {
	protocol
	rtt time.Duration
	tally
}

// No client of any protocol loses anything by upgrades: what was asked is answered, and what lasts longer ends in its
// protocol's own way. The service that is written by hand is shown beside it.
func TestNoProtocolLosesAnything(t *testing.T) { compare(t, protocols) }

func compare(t *testing.T, clients []protocol) {
	t.Helper()
	ours, theirs := measure(t, "midair", clients, *upgrades, ""), measure(t, "plain", clients, *upgrades, "")
	t.Logf("%d upgrades each\n%s", *upgrades, table(ours, theirs))
	mustLoseNothing(t, ours)
}

// Nor by progressive upgrades, whose old and new process share the connections in every proportion.
func TestProgressiveUpgradesLoseNothing(t *testing.T) { progress(t, protocols) }

func progress(t *testing.T, clients []protocol) {
	t.Helper()
	ours := measure(t, "midair", clients, *progressive, stepwise)
	t.Logf("%d progressive upgrades, 5, 25, 50, 100 %%\n%s", *progressive, table(ours, nil))
	mustLoseNothing(t, ours)
}

func mustLoseNothing(t *testing.T, runs []*run) {
	t.Helper()
	for _, r := range runs {
		if r.lost.Load() > 0 || r.cut.Load() > 0 || r.ok.Load() == 0 {
			t.Errorf("%s, RTT %v: %d answered, %d lost, %d ends cut: %v", r.name, r.rtt, r.ok.Load(), r.lost.Load(), r.cut.Load(), r.first)
		}
	}
}

// measure upgrades a service while all clients ask it, near and far.
func measure(t *testing.T, role string, clients []protocol, upgrades int, how string) []*run {
	t.Helper()
	dir, err := os.MkdirTemp("", "loss")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	addrs := map[string]string{web: testutil.FreeAddr(t), sec: testutil.FreeAddr(t), rpc: testutil.FreeAddr(t), raw: testutil.FreeAddr(t)}
	b, err := json.Marshal(addrs)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "addrs"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if how != "" {
		if err := os.WriteFile(filepath.Join(dir, how), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proc := testutil.Start(t, role, testutil.Cfg{Env: []string{dirEnv + "=" + dir}})
	pid := func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "pid"))
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	testutil.Until(t, patience, role+" serves", func() bool { return pid() != 0 })
	ctx, stop := context.WithCancel(t.Context())
	var runs []*run
	defer func() { // a client that is not answered any more may have said why
		for _, r := range runs {
			if t.Failed() && r.first != nil {
				t.Logf("%s, RTT %v: %v", r.name, r.rtt, r.first)
			}
		}
	}()
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond} {
		for _, p := range clients {
			r := &run{protocol: p, rtt: rtt}
			runs = append(runs, r)
			addr := addrs[p.listener]
			if rtt > 0 {
				addr = startRelay(t, addr, rtt)
			}
			running.Go(func() { r.run(ctx, addr, &r.tally) })
		}
	}
	answered(t, runs)
	for range upgrades {
		old, asked := pid(), time.Time{}
		testutil.Until(t, patience, role+" has a new process", func() bool {
			if now := pid(); now != old {
				return true
			}
			if time.Since(asked) > 3*time.Second { // tableflip refuses now and then
				asked = time.Now()
				_ = syscall.Kill(old, syscall.SIGHUP)
			}
			return false
		})
		answered(t, runs)
		if role == "plain" { // it refuses an upgrade while the old process drains
			proc.WaitFamily(t, 1, time.Minute)
		}
	}
	stop()
	running.Wait()
	_ = syscall.Kill(pid(), syscall.SIGTERM)
	if role == "plain" {
		_ = syscall.Kill(pid(), syscall.SIGKILL)
	}
	proc.WaitFamily(t, 0, time.Minute)
	return runs
}

// answered waits until every client has got some more answers.
func answered(t *testing.T, runs []*run) {
	t.Helper()
	before := make([]int64, len(runs))
	for i, r := range runs {
		before[i] = r.ok.Load()
	}
	for i, r := range runs {
		testutil.Until(t, patience, r.name+" is answered", func() bool { return r.ok.Load() >= before[i]+*between })
	}
}

func table(ours, theirs []*run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-34s %6s | %9s %5s %6s %4s | %9s %5s %6s %4s\n", "midair | tableflip and Shutdown by hand", "RTT",
		"answered", "lost", "told", "cut", "answered", "lost", "told", "cut")
	for i, o := range ours {
		p := new(run)
		if theirs != nil {
			p = theirs[i]
		}
		fmt.Fprintf(&b, "%-34s %6v | %9d %5d %6d %4d | %9d %5d %6d %4d\n", o.name, o.rtt,
			o.ok.Load(), o.lost.Load(), o.told.Load(), o.cut.Load(), p.ok.Load(), p.lost.Load(), p.told.Load(), p.cut.Load())
	}
	return b.String()
}
