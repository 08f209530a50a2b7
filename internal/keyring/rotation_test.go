package keyring_test

import (
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/keyring"
)

// A desk is a Rotation of keys that are letters, with a clock.
type desk struct {
	keyring.Rotation[key]
	now time.Time
}

func newDesk(insist bool, own string) *desk {
	d := &desk{now: time.Unix(1, 0)}
	d.Limit, d.Settle, d.Insist = 5, time.Minute, insist
	d.Configure(list("own", own), time.Time{})
	return d
}

// do does steps: "+ba" configures keys, "<ba" learns keys of a process that hears of changes, "?ba" those of another one,
// "*a" remembers a key, "-a" drops one, "~" lets a minute pass.
func (d *desk) do(steps string) {
	for _, s := range strings.Fields(steps) {
		switch keys := list("", s[1:]); s[0] {
		case '+':
			d.Configure(keys, d.now)
		case '<', '?':
			d.Learn(keys, s[0] == '<', d.now)
		case '*':
			d.Remember(keys...)
		case '-':
			d.Drop(func(k key) bool { return k.secret == s[1:] })
		case '~':
			d.now = d.now.Add(time.Minute)
		}
		d.Arrange(d.now)
	}
}

// The key that seals comes first, by the rule of Rotation.
func TestTheRuleOfRotation(t *testing.T) {
	for _, c := range []struct {
		what   string
		insist bool
		own    string
		steps  string
		want   string
	}{
		{"a start", false, "ba", "", "ba"},
		{"a new key", false, "a", "+ba", "ab"},
		{"a new key has settled", false, "a", "+ba ~", "ba"},
		{"two new keys, and the second one came first", false, "a", "+ba ~ +cba", "bca"},
		{"a key that comes back", false, "a", "+ba +a +ba ~", "ba"},
		{"a key that goes before it has settled, and comes back", false, "a", "+ba +a ~ +ba", "ba"},
		{"a key is replaced", false, "a", "+b", "ab"},
		{"a key was replaced", false, "a", "+b ~", "ba"},
		{"an old process has the first key", false, "ba", "?ab", "ba"},
		{"an old process has the second key", false, "ba", "?a", "ab"},
		{"an old process has other keys", false, "ba", "?c", "cba"},
		{"an old process that hears nothing", false, "a", "?a +ba ~", "ab"},
		{"an old process that hears of changes", false, "a", "<a +ba ~", "ba"},
		{"one that hears of changes and has not heard in time", false, "a", "<a +ba ~ <a ~", "ab"},
		{"one that hears of changes knows that the key is new", false, "ba", "<ab", "ab"},
		{"the same a minute later", false, "ba", "<ab ~", "ba"},
		{"the keys of the process before", false, "a", "?ab ?ac ?ad", "adcb"},
		{"the oldest are forgotten", false, "a", "?ab ?ac ?ad ?ae ?af", "afedc"},
		{"own keys are not", false, "abcde", "?fg ?hi", "habcd"},
		{"a drop", false, "a", "+ba -a", "b"},
		{"a drop of a key of others", false, "a", "?ab -b ?bc", "ca"},
		{"a dropped key is new again", false, "a", "+ba -b +ba", "ab"},
		{"remembered keys come last", false, "a", "*b *c ?ad", "adcb"},
		{"nothing own", false, "", "*b ?c", "cb"},
		{"insisting on the own key", true, "ba", "?c ?a", "bac"},
		{"insisting on none", true, "", "*x ?c ?a", "acx"},
	} {
		d := newDesk(c.insist, c.own)
		d.Arrange(d.now)
		if d.do(c.steps); letters(d.Keys()) != c.want {
			t.Errorf("%s: %q after %q has %q, want %q", c.what, c.own, c.steps, letters(d.Keys()), c.want)
		}
	}
}

// Arrange says when the next key will have settled, and the zero time if none waits.
func TestArrangeSaysWhenItIsDue(t *testing.T) {
	d := newDesk(false, "a")
	if next := d.Arrange(d.now); !next.IsZero() {
		t.Errorf("due at %v without a new key", next)
	}
	d.do("+ba")
	began := d.now
	d.now = d.now.Add(time.Second)
	d.do("+cba")
	if next := d.Arrange(d.now); !next.Equal(began.Add(time.Minute)) {
		t.Errorf("due at %v, want a minute after %v", next, began)
	}
	d.do("~ ~")
	if next := d.Arrange(d.now); !next.IsZero() {
		t.Errorf("due at %v when all have settled", next)
	}
}
