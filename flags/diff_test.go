package flags_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
)

func users(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint("u", i)
	}
	return keys
}

// Diff counts who gets another variant, by the keys of real users, and names where they go.
func TestDiffCountsWhoMoves(t *testing.T) {
	tenth, quarter := rule(`{"fractional":[["a",10],["b",90]]}`), rule(`{"fractional":[["a",25],["b",75]]}`)
	changes, err := flags.Diff([]byte(tenth), []byte(quarter), users(10_000))
	check(t, err)
	if len(changes) != 1 {
		t.Fatalf("%v", changes)
	}
	c := changes[0]
	if c.Key != "f" || c.Users != 10_000 || c.Moved < 1300 || c.Moved > 1700 || !c.Monotone || c.Moves[[2]string{"b", "a"}] != c.Moved {
		t.Errorf("%+v", c)
	}
	mustHold(t, c.String(), "f: ", "of 10000 users", `from "b" to "a"`)
	same, err := flags.Diff([]byte(tenth), []byte(tenth), users(100))
	check(t, err)
	mustBe(t, "changes of the same file", len(same), 0)
	gone, err := flags.Diff([]byte(tenth), []byte(`{"flags": {}}`), users(100))
	check(t, err)
	mustBe(t, "moved by a removed flag", gone[0].Moved, 100)
	added, err := flags.Diff([]byte(`{"flags": {}}`), []byte(tenth), users(100))
	check(t, err)
	mustBe(t, "moved by a new flag", added[0].Moved, 100)
	for _, bad := range [][2]string{{"{", tenth}, {tenth, "{"}} {
		if _, err := flags.Diff([]byte(bad[0]), []byte(bad[1]), nil); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// An edit that takes the new variant away from users who have it is not monotone, and Lint says so; growth at the place of the
// first variant is.
func TestLintFindsEditsThatAreNotMonotone(t *testing.T) {
	for _, c := range []struct {
		before, after string
		monotone      bool
	}{
		{`{"fractional":[["a",10],["b",90]]}`, `{"fractional":[["a",25],["b",75]]}`, true},
		{`{"fractional":[["a",10],["b",90]]}`, `{"fractional":[["a",100],["b",0]]}`, true},
		{`{"fractional":[["a",10],["b",80],["c",10]]}`, `{"fractional":[["a",20],["b",60],["c",20]]}`, true},
		{`{"fractional":[["a",10],["b",90]]}`, `{"fractional":[["b",75],["a",25]]}`, false},
		{`{"fractional":[["a",10],["b",10],["c",80]]}`, `{"fractional":[["a",20],["b",10],["c",70]]}`, false},
		{`{"fractional":[["a",10],["b",90]]}`, `{"fractional":[{"cat":["salt",{"var":"targetingKey"}]},["a",10],["b",90]]}`, false},
	} {
		all, err := flags.Lint([]byte(rule(c.before)), []byte(rule(c.after)))
		check(t, err)
		found := strings.Contains(fmt.Sprint(all), "not monotone")
		if found == c.monotone {
			t.Errorf("from %s to %s: %v", c.before, c.after, all)
		}
	}
}

// Lint names flags that would be refused, without a file before too.
func TestLintNamesRefusedFlags(t *testing.T) {
	all, err := flags.Lint(nil, []byte(`{"flags": {"bad": {"state": "ENABLED"}, "w": {"state": "ENABLED", "variants": {"v": 1}}}}`))
	check(t, err)
	if len(all) == 0 || all[0].Key != "bad" {
		t.Fatalf("%v", all)
	}
	mustHold(t, all[0].String(), "flag bad", "refused", "variants")
	if _, err := flags.Lint(nil, []byte("flags:\n  x: 1\n")); err == nil {
		t.Error("YAML: no error")
	}
	if _, err := flags.Lint([]byte("{"), []byte(`{"flags": {}}`)); err == nil {
		t.Error("a broken file before: no error")
	}
}
