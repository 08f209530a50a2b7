//go:build linux

package upgrade_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var upgrades = flag.Int("midair.upgrades", 100, "how many upgrades TestUpgradeLosesNothingUnderLoad makes")

// No request is lost by an upgrade, and none is executed twice.
func TestUpgradeLosesNothingUnderLoad(t *testing.T) {
	r := startService(t, nil)
	l := r.load(testutil.LoadOptions{KeepAlive: 32, New: 8, SlowEvery: 50})
	for range *upgrades {
		r.upgrade()
	}
	last := fmt.Sprint("g", *upgrades+1)
	testutil.Until(t, 20*time.Second, "the last generation answers", func() bool { return l.Seen(last) })
	a := r.account(l)
	t.Logf("%d upgrades\n%s", *upgrades, a)
	a.MustBeClean(t)
	r.WaitFamily(t, 1, 30*time.Second)
}

// While an upgrade is under way another one is refused, and a commit by hand ends it early.
func TestSecondUpgradeIsRefusedMeanwhile(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = time.Minute })
	first := make(chan answer, 1)
	go func() {
		a, _ := r.tryAsk(context.Background(), "POST", "/upgrade")
		first <- a
	}()
	r.waitPhase("soak")
	if a := r.ask("POST", "/upgrade"); !a.InProgress {
		t.Fatalf("second upgrade: %+v", a)
	}
	if a := r.ask("POST", "/commit"); !a.Committed {
		t.Fatalf("commit: %+v", a)
	}
	if a := <-first; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, 20*time.Second)
	if a := r.ask("POST", "/commit"); !a.NotReady {
		t.Fatalf("commit without an upgrade: %+v", a)
	}
	if a := r.ask("POST", "/abort"); !a.NotReady {
		t.Fatalf("abort without an upgrade: %+v", a)
	}
}

func (r *running) post(path string) (n int, by string) {
	r.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Post("http://"+r.addr+path, "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	_, _ = fmt.Sscan(string(b), &n)
	return n, resp.Header.Get("X-Version")
}

func (r *running) add(want int, by string) {
	r.t.Helper()
	if n, v := r.post("/add"); n != want || v != by {
		r.t.Fatalf("%s says %d, want %s and %d", v, n, by, want)
	}
}

// A parent and a child that know tableflip only take part: old and new need not both use this library.
func TestPlainTableflipOnEitherSide(t *testing.T) {
	r := startService(t, func(s *settings) { s.Plain = true })
	l := r.load(smallLoad)

	r.change(func(s *settings) { s.Plain = false })
	r.signalMain(syscall.SIGHUP)
	testutil.Until(t, 20*time.Second, "the library answers", func() bool { return l.Seen("g2") })
	r.WaitFamily(t, 1, 30*time.Second)
	if a := r.account(l); a.Counts[testutil.Refused] > 0 || a.Counts[testutil.Twice] > 0 {
		t.Fatalf("tableflip's Shutdown may lose what it has accepted, but no more\n%s", a)
	}

	l = r.load(smallLoad)
	r.change(func(s *settings) { s.Plain = true })
	r.upgrade()
	testutil.Until(t, 20*time.Second, "tableflip answers", func() bool { return l.Seen("plain") })
	r.WaitFamily(t, 1, 30*time.Second)
	r.account(l).MustBeClean(t)

	r.change(func(s *settings) { s.Plain = false })
	plain, asked := r.mainPID(), time.Time{}
	testutil.Until(t, 20*time.Second, "the library serves again", func() bool {
		if r.mainPID() == plain && time.Since(asked) > time.Second { // tableflip refuses until it knows that its parent has gone
			asked = time.Now()
			r.signalMain(syscall.SIGHUP)
		}
		a, err := r.tryAsk(context.Background(), "GET", "/status")
		return err == nil && a.Status.State == "serving"
	})
	r.WaitFamily(t, 1, 30*time.Second)
	r.upgrade()
}
