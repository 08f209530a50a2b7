package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A visitor is counted right and stays on one side through twenty upgrades under load. When the weight grows it goes
// from stable to canary, and never back.
func TestVisitorsKeepCountAndSide(t *testing.T) {
	hangups := 20
	if testing.Short() {
		hangups = 4
	}
	s := startSite(t)
	s.release()
	s.weigh("50%")
	l, c := s.load(), s.startCrowd(24)
	generation := 1
	hangup := func() {
		t.Helper()
		s.mustEvaluate()
		s.signal(syscall.SIGHUP)
		generation++
		s.serving(generation)
	}
	for range hangups {
		hangup()
	}
	c.pass()
	fixed := c.mustGo("stable", "canary")
	s.weigh("0%")
	c.pass()
	c.forget()
	c.mustGo("stable")
	var grown []int
	for _, weight := range []string{"25%", "50%", "100%"} {
		s.weigh(weight)
		hangup()
		c.pass()
		grown = append(grown, c.mustGo("stable", "stable canary")["stable canary"])
	}
	if n := grown[2]; n != len(c.guests) || grown[1] != fixed["canary"] {
		t.Errorf("%v of %d guests on the canary side while the weight grew, %d at 50%% before", grown, len(c.guests), fixed["canary"])
	}
	s.mustEvaluate()
	answered := c.mustLoseNothing()
	s.mustLoseNothing(l)
	t.Logf("%d upgrades, %d counted requests of %d guests, all right; on the canary side: %d at 50%%, then %v",
		generation-1, answered, len(c.guests), fixed["canary"], grown)
}

// A flag file that is broken or gone just before an upgrade does not hurt: the new process has the values of the old one,
// is ready, and says what is wrong. It creates no file.
func TestUpgradeWithBrokenFlags(t *testing.T) {
	s := startSite(t)
	s.release()
	s.weigh("50%")
	l, c := s.load(), s.startCrowd(8)
	path, generation := s.file("flags.json"), 1
	for _, breaks := range []func() error{
		func() error { return writeFile(path, `{"flags": {`) },
		func() error { return nil }, // still broken: the values come from two processes ago
		func() error { return writeFile(path, "") },
		func() error { return writeFile(path, strings.Replace(flagFile("50%"), `"50%": 0.5,`, "", 1)) },
		func() error { return os.Remove(path) },
	} {
		if err := breaks(); err != nil {
			t.Fatal(err)
		}
		s.post("/upgrade?force=1", 200)
		generation++
		s.serving(generation)
		st := s.status()
		kept := generation != 5 // one flag is bad then, and the rest of the file is served
		if st.Canary.Weight != 0.5 || !strings.HasPrefix(st.Flags.State, "stale: ") || st.Flags.Kept != kept || st.Flags.Flags != 5 {
			t.Errorf("generation %d: %+v, %+v", generation, st.Canary, st.Flags)
		}
		if r := s.ask("GET", "/readyz", ""); r.status != 200 || r.generation() != generation {
			t.Errorf("/readyz: %+v", r)
		}
		if r := s.ask("GET", "/flag/banner", ""); r.status != 200 || !strings.Contains(r.body, "Welcome") {
			t.Errorf("/flag/banner: %+v", r)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("an upgrade has created the file: %v", err)
	}
	c.pass()
	c.mustGo("stable", "canary")
	s.mustEvaluate()
	s.weigh("100%")
	if st := s.status(); st.Flags.Kept || st.Flags.Error != "" {
		t.Errorf("with a good file: %+v", st.Flags)
	}
	c.mustLoseNothing()
	s.mustLoseNothing(l)
}

// A candidate that is taken back, and one that is killed, leave every visitor with its count and its side, also those who
// came first while both processes served.
func TestAbortKeepsCountAndSide(t *testing.T) {
	s := startSite(t, "-soak", "1h")
	s.release()
	s.weigh("50%")
	early := s.startCrowd(8)
	first, late := s.bothServe()
	s.post("/abort", 200)
	s.decoded(<-first, 500)
	s.serving(1)
	for _, c := range []*crowd{early, late} {
		c.pass()
		c.mustGo("stable", "canary")
		if c == late {
			c.mustLoseNothing()
		}
	}
	first, late = s.bothServe()
	signalPID(s.status().Upgrade.Candidate.PID, os.Kill)
	s.decoded(<-first, 500)
	s.serving(1)
	for _, c := range []*crowd{early, late} {
		c.pass()
		c.mustGo("stable", "canary")
		answered, lost := c.stop()
		t.Logf("candidate killed: %d counted requests answered, %d requests lost with it", answered, lost)
	}
}

// If it is the old process that dies, the committed build is started again, and has the counts too, those of the candidate as well.
func TestDeathOfTheOldKeepsCountAndSide(t *testing.T) {
	s := startSite(t, "-soak", "1h")
	s.release()
	s.weigh("50%")
	early := s.startCrowd(8)
	_, late := s.bothServe()
	signalPID(s.mainPID(), os.Kill)
	s.serving(3) // the committed build, which the supervisor has started
	for _, c := range []*crowd{early, late} {
		c.pass()
		c.mustGo("stable", "canary")
		answered, lost := c.stop()
		t.Logf("old process killed: %d counted requests answered, %d requests lost with it", answered, lost)
	}
}

// bothServe begins an upgrade, and lets a crowd come while both processes serve.
func (s *site) bothServe() (outcome <-chan reply, late *crowd) {
	s.t.Helper()
	outcome = s.later(context.Background(), "/upgrade?force=1")
	s.untilPhase("soak")
	testutil.Until(s.t, patience, "the candidate serves", func() bool { return s.ask("GET", "/version", "").version() == "v2" })
	return outcome, s.startCrowd(8)
}

// Flags are evaluated for the visitor, and know on which side of the router it is.
func TestFlagsOfAVisitor(t *testing.T) {
	s := startSite(t)
	b := &browser{wire: wire{addr: s.addr}}
	defer b.hangUp()
	ask := func(key string) (a flagAnswer) {
		t.Helper()
		_, body, err := b.get("/flag/" + key)
		if err == nil {
			err = json.Unmarshal([]byte(body), &a)
		}
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	dark := ask("dark-mode")
	if dark.Reason != "TARGETING_MATCH" {
		t.Errorf("the visitor has no key: %+v", dark)
	}
	for weight, want := range map[string]flagAnswer{
		"0%":   {Key: "banner", Value: "Welcome", Variant: "welcome", Reason: "DEFAULT"},
		"100%": {Key: "banner", Value: "Welcome, you see the new cart", Variant: "canary", Reason: "TARGETING_MATCH"},
	} {
		s.weigh(weight)
		if got := ask("banner"); got != want {
			t.Errorf("at %s: %+v, want %+v", weight, got, want)
		}
		if again := ask("dark-mode"); again != dark {
			t.Errorf("at %s: %+v, before %+v", weight, again, dark)
		}
	}
	if limits, ok := ask("limits").Value.(map[string]any); !ok || limits["items"] != 50.0 {
		t.Errorf("limits: %+v", limits)
	}
	if weight := ask("cart-v2"); weight.Reason != "STATIC" {
		t.Errorf("cart-v2: %+v", weight)
	}
	s.mustEvaluate()
	if r := s.ask("GET", "/flag/nothing", ""); r.status != 404 || !strings.Contains(r.body, "there is no such flag") {
		t.Errorf("a flag that does not exist: %+v", r)
	}
}

// A flag that the program does not know is evaluated whatever its type is, and a null says that it is left to the program.
func TestAnyFlag(t *testing.T) {
	s := startSite(t)
	err := writeFile(s.file("flags.json"), `{"flags": {
		"b": {"state": "ENABLED", "variants": {"x": true}, "defaultVariant": "x"},
		"s": {"state": "ENABLED", "variants": {"x": "text"}, "defaultVariant": "x"},
		"n": {"state": "ENABLED", "variants": {"x": 1.5}, "defaultVariant": "x"},
		"o": {"state": "ENABLED", "variants": {"x": {"a": [1]}}, "defaultVariant": "x"},
		"off": {"state": "DISABLED", "variants": {"x": "text"}, "defaultVariant": "x"},
		"banner": {"state": "ENABLED", "variants": {"x": 7}, "defaultVariant": "x"},
		"wrong": {"state": "ENABLED", "variants": {"x": 7}, "defaultVariant": "x", "targeting": {"cat": ["y"]}}
	}}`)
	if err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "the file is read", func() bool { return s.status().Flags.Flags == 7 })
	for _, c := range []struct {
		key, want string
		status    int
	}{
		{"b", `"value":true,"variant":"x","reason":"STATIC"`, 200},
		{"s", `"value":"text","variant":"x","reason":"STATIC"`, 200},
		{"n", `"value":1.5,"variant":"x","reason":"STATIC"`, 200},
		{"o", `"value":{"a":[1]},"variant":"x","reason":"STATIC"`, 200},
		{"off", `"value":null,"reason":"DISABLED"`, 200},
		{"banner", `"value":7,"variant":"x","reason":"STATIC"`, 200},
		{"wrong", `"value":null,"reason":"ERROR"`, 500},
		{"no%2Fthing", `"key":"no/thing","value":null,"reason":"ERROR"`, 404},
	} {
		for range 2 { // the second time the type is known
			r := s.ask("GET", "/flag/"+c.key, "")
			body := strings.Join(strings.Fields(strings.ReplaceAll(r.body, `": `, `":`)), "")
			if r.status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("%s: status %d, want %d and %s\n%s", c.key, r.status, c.status, c.want, r.body)
			}
		}
	}
}

// The first start creates what is missing, a restart leaves it alone, and visitors and their counts are known again. With
// a broken file a restart serves what needs none, and nobody replaces it by an upgrade that has no values either.
func TestRestart(t *testing.T) {
	s := startSite(t)
	if s.read("flags.json") != defaultFlags {
		t.Error("the flag file is not the default one")
	}
	b := &browser{wire: wire{addr: s.addr}}
	defer b.hangUp()
	if _, body, err := b.get("/count"); err != nil || body != "1" {
		t.Errorf("/count: %q, %v", body, err)
	}
	s.signal(syscall.SIGTERM)
	b.hangUp()
	s.mustEnd(0)
	broken := "{"
	if err := writeFile(s.file("flags.json"), broken); err != nil {
		t.Fatal(err)
	}
	again := testutil.StartCommand(t, testutil.Cfg{Dir: s.dir}, s.file("current"), "-addr", s.addr, "-pid-file", "pid", "-admin", "unix:admin")
	again.WaitOutput(patience, "upgrade: serving")
	if _, body, err := b.get("/count"); err != nil || body != "2" {
		t.Errorf("/count after a restart: %q, %v", body, err)
	}
	if st := s.status().Flags; s.read("flags.json") != broken || !strings.HasPrefix(st.State, "not ready") {
		t.Errorf("a broken file: %+v", st)
	}
	if r := s.ask("GET", "/flag/banner", ""); r.status != 503 {
		t.Errorf("a flag without a file: %+v", r)
	}
	if r := s.ask("GET", "/cart", ""); r.status != 200 || strings.TrimSpace(r.body) != "stable" {
		t.Errorf("the cart without a file: %+v", r)
	}
	if a := s.post("/upgrade?force=1", 500); a.Phase != "check" || !strings.Contains(a.Reason, s.file("flags.json")) {
		t.Errorf("an upgrade without values: %+v", a)
	}
}
