package session_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// A key by code opens at once and seals a minute later. The keys that a process has at its start may seal at once.
func TestAKeyByCodeSealsAMinuteLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &session.KeyRing{}
		rotate(t, k, "ba")
		wantStates(t, k, "b active, a retiring")
		rotate(t, k, "dcba")
		time.Sleep(time.Minute - time.Nanosecond)
		wantStates(t, k, "b active, d accept-only, c accept-only, a retiring")
		rotate(t, k, "dcba") // again: the minute is not begun anew
		rotate(t, k, "cdba")
		time.Sleep(time.Nanosecond)
		wantStates(t, k, "c active, d accept-only, b retiring, a retiring")
		rotate(t, k, "d")
		wantStates(t, k, "d active, c retiring, b retiring, a retiring")
	})
}

// Secrets that are no good are refused with their place, and change nothing.
func TestABadRotationChangesNothing(t *testing.T) {
	k := ring40(t, "a")
	good := bytes.Repeat([]byte("x"), 32)
	for want, secrets := range map[string][][]byte{
		"no secret": nil, "secret 2: 3 bytes": {good, []byte("abc")}, "17 keys": nil,
	} {
		for range 17 * strings.Count(want, "17") {
			secrets = append(secrets, good)
		}
		if err := k.Rotate(secrets...); err == nil || !strings.HasPrefix(err.Error(), "session: "+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	wantStates(t, k, "a active")
}

// A service that had its key from the store goes over to keys by code, and nobody is logged out.
func TestKeysOfAStoreMayBeReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := session.Dir(t.TempDir())
		before := newVisitor(t, newSite(dir, session.Options{}))
		before.want("/count", "1")
		s := newSite(dir, session.Options{})
		rotate(t, s.sm.Keys(), "a")
		v := before.with(s)
		v.want("/count", "2")
		before.cookie = v.value()
		before.want("/count", "3") // the key of the store seals for a minute, since another process knows nothing else
		time.Sleep(time.Minute)
		v.want("/count", "4")
		v.with(newSite(dir, session.Options{Keys: ring40(t, "a")})).want("/count", "5")
	})
}

// After an upgrade, a new key of this process is active after its minute if the old process hears of changes by itself. Otherwise
// the key waits for the next upgrade, since the old process may still serve.
func TestANewKeyWaitsForAnOldProcessThatHearsNothing(t *testing.T) {
	for _, told := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			old, next := ring40(t, "a"), ring40(t, "a")
			if told {
				rotate(t, old, "a")
			}
			testutil.HandOver(t, old, next)
			rotate(t, next, "ba")
			time.Sleep(time.Hour)
			want := map[bool]string{true: "b active, a retiring", false: "a active, b accept-only"}
			wantStates(t, next, want[told])
			third := &session.KeyRing{}
			rotate(t, third, "ba")
			testutil.HandOver(t, next, third)
			time.Sleep(time.Minute)
			wantStates(t, third, "b active, a retiring")
		})
	}
}

// A build that does not know rotation sends and takes a plain list of keys. The list of a ring that hears of changes ends with
// its first key once more, and has at most 16 keys, which is what such a build takes.
func TestTheListOfARingThatHearsOfChanges(t *testing.T) {
	k := &session.KeyRing{}
	rotate(t, k, "ba")
	data, err := k.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	a, b := "0028"+strings.Repeat("61", 40), "0028"+strings.Repeat("62", 40)
	if got := hex.EncodeToString(data); got != "01"+b+a+b {
		t.Errorf("the list is %s", got)
	}
	taken := &session.KeyRing{}
	if err := taken.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	wantStates(t, taken, "b active, a retiring")

	rotate(t, k, "abcdefghijklmnop")
	if data, err = k.MarshalBinary(); err != nil || len(data) != 1+16*42 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if err := taken.UnmarshalBinary(data); err != nil {
		t.Error(err)
	}
}

// Neither the id nor the state of a key has anything of its secret.
func TestTheStatusHasNoSecret(t *testing.T) {
	for _, s := range ring40(t, "a").Status() {
		if len(s.ID) != 8 || strings.Contains(s.ID, "61616161") || s.State != "active" {
			t.Errorf("%+v", s)
		}
	}
	if n := len((&session.KeyRing{}).Status()); n != 1 {
		t.Errorf("the zero value has %d keys", n)
	}
}
