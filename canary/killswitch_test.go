package canary_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/testutil"
)

func killSwitch(opts canary.KillSwitchOptions) *canary.KillSwitch {
	opts.Logger = quiet
	return canary.NewKillSwitch("cart", opts)
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A row is a state of a rollout, and what it does with the requests that are drawn and with those that choose the canary.
type row struct {
	name      string
	weight    float64
	set       func(k *canary.KillSwitch) error
	drawn     string // "stable", "canary", or "share"
	choose    string // of the requests that choose the canary
	effective float64
	by        string
}

func rows() []row {
	latch := func(k *canary.KillSwitch) error { return k.Latch("slow") }
	kill := func(k *canary.KillSwitch) error { return k.Kill("bad") }
	both := func(k *canary.KillSwitch) error { return errors.Join(k.Kill("bad"), k.Latch("slow")) }
	now := func(k *canary.KillSwitch) error { k.LatchNow("slow"); return nil }
	revived := func(k *canary.KillSwitch) error { return errors.Join(both(k), k.Revive("mended")) }
	open := func(*canary.KillSwitch) error { return nil }
	return []row{
		{"weight 0", 0, open, "stable", "canary", 0, "weight"},
		{"weight between", 0.5, open, "share", "canary", 0.5, "weight"},
		{"weight 1", 1, open, "canary", "canary", 1, "weight"},
		{"held by a judge", 0.25, open, "share", "canary", 0.25, "weight"}, // its weight function goes on to return 0.25
		{"latched at 0", 0, latch, "stable", "stable", 0, "latched"},
		{"latched between", 0.5, latch, "stable", "stable", 0, "latched"},
		{"latched at 1", 1, latch, "stable", "stable", 0, "latched"},
		{"latched by a request", 1, now, "stable", "stable", 0, "latched"},
		{"killed at 0", 0, kill, "stable", "stable", 0, "killed"},
		{"killed between", 0.5, kill, "stable", "stable", 0, "killed"},
		{"killed at 1", 1, kill, "stable", "stable", 0, "killed"},
		{"killed and latched", 1, both, "stable", "stable", 0, "killed"},
		{"killed, then revived", 0.5, revived, "share", "canary", 0.5, "weight"},
		{"killed at 1, then revived", 1, revived, "canary", "canary", 1, "weight"},
	}
}

// The table of decisions, cell by cell: what decides against how the request is assigned.
func TestKillAndLatchStopEveryRequest(t *testing.T) {
	for _, row := range rows() {
		for column, c := range map[string]struct {
			opts    canary.Options
			headers []string
		}{
			"drawn, keyless": {}, "drawn, keyed": {opts: canary.Options{Key: byHeader}},
			"drawn, cookie":        {opts: canary.Options{Cookie: newCookie(canary.CookieOptions{})}},
			"chosen canary":        {headers: []string{"Canary", "true"}},
			"chosen canary, keyed": {opts: canary.Options{Key: byHeader}, headers: []string{"Canary", "true"}},
			"chosen stable":        {headers: []string{"Canary", "false"}},
		} {
			want := row.drawn
			switch {
			case strings.HasPrefix(column, "chosen canary"):
				want = row.choose
			case column == "chosen stable":
				want = "stable"
			}
			name, weights := row.name+", "+column, 0
			c.opts = headed(c.opts, "canary")
			c.opts.Kill = killSwitch(canary.KillSwitchOptions{})
			c.opts.Weight = func() float64 { weights++; return row.weight }
			must(t, row.set(c.opts.Kill))
			rt := router(c.opts)
			share(t, name, rt, want, row.weight, c.headers)
			stopped := row.by != "weight"
			if stopped && weights > 0 {
				t.Errorf("%s: asked %d times for the weight", name, weights)
			}
			if s := rt.Status(); s.Weight != row.effective || s.DecidedBy != row.by {
				t.Errorf("%s: status %+v", name, s)
			}
		}
	}
}

// share checks which side answers: one for all, or both in the share of the weight.
func share(t *testing.T, name string, rt *canary.Router, want string, weight float64, headers []string) {
	t.Helper()
	const users = 400
	got := 0
	for i := range users {
		if ask(rt, append([]string{"User", fmt.Sprint(i)}, headers...)...) == "canary" {
			got++
		}
	}
	low, high := 0, 0
	switch want {
	case "canary":
		low, high = users, users
	case "share":
		low, high = int(users*(weight-0.15)), int(users*(weight+0.15)) // more than 6 sigma
	}
	if got < low || got > high {
		t.Errorf("%s: %d of %d on the canary side, want %s", name, got, users, want)
	}
}

// In a stopped rollout nobody is asked for a key and no cookie is set. A revival brings the same visitors back.
func TestStoppedRolloutAsksNobodyAndSetsNoCookie(t *testing.T) {
	k := killSwitch(canary.KillSwitchOptions{})
	keys := 0
	rt := router(canary.Options{
		Weight: half, Kill: k, Cookie: newCookie(canary.CookieOptions{}),
		Key: func(r *http.Request) string { keys++; return byHeader(r) },
	})
	before := cohort(rt, 200)
	must(t, k.Kill("bad"))
	keys = 0
	v := newVisitor(t)
	if v.visit(rt) != "stable" || v.minted != 0 || len(cohort(rt, 200)) != 0 || keys != 0 {
		t.Errorf("%d cookies, %d keys", v.minted, keys)
	}
	must(t, k.Revive("mended"))
	if after := cohort(rt, 200); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the revival has another cohort")
	}
}

// Several routers share a switch, and a router without a canary says so before it says who has killed it.
func TestRoutersShareASwitch(t *testing.T) {
	k := killSwitch(canary.KillSwitchOptions{})
	a, b := router(canary.Options{Weight: canary.Fixed(1), Kill: k}), router(canary.Options{Weight: canary.Fixed(1), Kill: k})
	none := canary.NewRouter(v1, nil, canary.Options{Weight: canary.Fixed(1), Kill: k})
	must(t, k.Kill("bad"))
	if ask(a) != "stable" || ask(b) != "stable" || ask(none) != "stable" {
		t.Error("not all of them are killed")
	}
	if s := none.Status(); s.DecidedBy != "no canary" {
		t.Errorf("status %+v", s)
	}
}

// The zero value is a switch in memory.
func TestZeroKillSwitchWorks(t *testing.T) {
	var k canary.KillSwitch
	rt := router(canary.Options{Weight: canary.Fixed(1), Kill: &k})
	if k.Status().State != "open" || ask(rt) != "canary" {
		t.Errorf("%+v", k.Status())
	}
	must(t, k.Kill("bad"), k.Publish())
	if k.Status().State != "killed" || ask(rt) != "stable" {
		t.Errorf("%+v", k.Status())
	}
	must(t, k.Revive("mended"))
	if ask(rt) != "canary" {
		t.Error("not revived")
	}
}

// Killed wins wherever two states meet: in what a new process starts with, in what comes with the commit, in what comes back on
// an abort, in a broadcast, and in the file. A revival wins over the kills that it knows, in the same places.
func TestKilledWinsWhereverStatesMeet(t *testing.T) {
	kill := func(k *canary.KillSwitch) error { return k.Kill("bad") }
	revive := func(k *canary.KillSwitch) error { return k.Revive("mended") }
	for _, c := range []struct {
		name               string
		before             func(old *canary.KillSwitch) error // in the old process, before the upgrade
		inOld, inNew       func(k *canary.KillSwitch) error   // while both processes live
		old, next, restart string                             // the states in the end, and after a restart on the file of each
	}{
		{"killed before", kill, nil, nil, "killed", "killed", "killed killed"},
		{"killed in the old process", nil, kill, nil, "killed", "killed", "killed killed"},
		{"killed in the new process", nil, nil, kill, "killed", "killed", "killed killed"},
		{"killed in both", kill, kill, kill, "killed", "killed", "killed killed"},
		{"revived in the old process", kill, revive, nil, "open", "open", "open open"},
		{"revived in the new process", kill, nil, revive, "open", "open", "open open"},
		{"revived in the old, killed in the new", kill, revive, kill, "killed", "killed", "killed killed"},
		{"killed in the old, revived in the new", kill, kill, revive, "killed", "killed", "killed killed"},
	} {
		for _, end := range []string{"commit", "abort", "broadcast"} {
			dir := t.TempDir()
			files := []string{filepath.Join(dir, "old"), filepath.Join(dir, "new")} // two, so that the file is not how they meet
			var old, next *canary.KillSwitch
			opts := [2]canary.KillSwitchOptions{{File: files[0]}, {File: files[1]}}
			if end == "broadcast" {
				opts[0].Broadcast = func(_ string, data []byte) error { return next.UnmarshalBinary(data) }
				opts[1].Broadcast = func(_ string, data []byte) error { return old.UnmarshalBinary(data) }
			}
			old, next = killSwitch(opts[0]), killSwitch(opts[1])
			do := func(what func(*canary.KillSwitch) error, k *canary.KillSwitch) {
				if what != nil {
					must(t, what(k))
				}
			}
			do(c.before, old)
			testutil.HandOver(t, old, next) // welcome
			fromOld, _ := old.MarshalBinary()
			fromNew, _ := next.MarshalBinary()
			atOnce := end == "broadcast" && c.inOld != nil && c.inNew != nil
			if atOnce { // neither knows of the other's change: each has a twin that makes it
				a, b := killSwitch(canary.KillSwitchOptions{}), killSwitch(canary.KillSwitchOptions{})
				must(t, a.UnmarshalBinary(fromOld), b.UnmarshalBinary(fromNew), c.inOld(a), c.inNew(b))
				for _, k := range []*canary.KillSwitch{old, next} {
					testutil.HandOver(t, b, k)
					testutil.HandOver(t, a, k)
				}
			} else {
				do(c.inOld, old)
				do(c.inNew, next)
			}
			switch end {
			case "commit": // the new process gets what the old one has, which drains and hears of the rest by broadcast
				testutil.HandOver(t, old, next)
				testutil.HandOver(t, next, old)
			case "abort":
				testutil.HandOver(t, next, old)
				testutil.HandOver(t, old, next)
			}
			restart := killSwitch(canary.KillSwitchOptions{File: files[0]}).Status().State + " " +
				killSwitch(canary.KillSwitchOptions{File: files[1]}).Status().State
			if o, n := old.Status().State, next.Status().State; o != c.old || n != c.next || restart != c.restart {
				t.Errorf("%s, %s: %s, %s, restart %s, want %s, %s, restart %s", c.name, end, o, n, restart, c.old, c.next, c.restart)
			}
		}
	}
}

// serviceRole says who answers a request that has chosen the canary, kills the rollout, and says again who answers.
func serviceRole() int {
	k := killSwitch(canary.KillSwitchOptions{File: os.Getenv("FILE")})
	rt := router(headed(canary.Options{Weight: canary.Fixed(1), Kill: k}, "canary"))
	fmt.Println("start", ask(rt, "Canary", "true"))
	if err := k.Kill("bad"); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("acknowledged", ask(rt, "Canary", "true"))
	select {}
}

// A kill that was acknowledged holds after a kill -9 and a restart.
func TestKillHoldsAfterKill9AndRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cart.kill")
	for _, start := range []string{"canary", "stable", "stable"} {
		p := testutil.Start(t, "service", testutil.Cfg{Env: []string{"FILE=" + path}})
		p.WaitOutput(30*time.Second, "acknowledged")
		p.Kill()
		if want := "start " + start + "\nacknowledged stable\n"; p.Output() != want {
			t.Errorf("output %q, want %q", p.Output(), want)
		}
	}
}

// The switch is broadcast under its name, and says in the status who has decided what, and why.
func TestKillSwitchSaysWhoAndWhy(t *testing.T) {
	var sent string
	path := filepath.Join(t.TempDir(), "cart.kill")
	k := killSwitch(canary.KillSwitchOptions{File: path, Broadcast: func(name string, data []byte) error {
		sent = name
		return errors.New("nobody listens")
	}})
	if s := k.Status(); s != (canary.KillStatus{Name: "cart", State: "open", File: path}) {
		t.Errorf("%+v", s)
	}
	before := time.Now().Add(-time.Second)
	if err := k.Kill("bad"); err == nil || !strings.Contains(err.Error(), "nobody listens") || !strings.HasPrefix(err.Error(), `canary: kill switch "cart": `) {
		t.Error(err)
	}
	host, _ := os.Hostname()
	s := k.Status()
	if sent != "cart" || s.State != "killed" || s.Reason != "bad" || s.PID != os.Getpid() || s.Host != host || s.At.Before(before) ||
		s.FileError != "" || !strings.Contains(s.BroadcastError, "nobody listens") {
		t.Errorf("sent %q, %+v", sent, s)
	}
	data, err := json.Marshal(k.Status())
	if err != nil || !strings.HasPrefix(string(data), `{"name":"cart","state":"killed","reason":"bad","at":"`) {
		t.Errorf("%s, %v", data, err)
	}
	if canary.NewKillSwitch("", canary.KillSwitchOptions{}).Status().Name != "canary" {
		t.Error("there is no name by default")
	}
}
