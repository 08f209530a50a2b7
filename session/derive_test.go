package session_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/midair-go/midair/session"
)

func derive(t *testing.T, purpose string, secrets ...string) [][]byte {
	t.Helper()
	var all [][]byte
	for _, s := range secrets {
		all = append(all, []byte(s))
	}
	k, err := session.NewKeyRing(all...)
	if err != nil {
		t.Fatal(err)
	}
	return k.Derive(purpose)
}

const (
	secretOne = "the first secret of these tests, long enough"
	secretTwo = "the second secret of these tests, long enough"
)

// A derived key is the same in each process and build that has the secret, and another one for each secret and purpose.
func TestDerivedKeysDependOnSecretAndPurpose(t *testing.T) {
	one := derive(t, "tokens", secretOne)[0]
	if got := hex.EncodeToString(one); got != "c0f0e46f585ee387f28b8887d6db884e0c1da176819cc339c392102dd58a1d3e" {
		t.Errorf("%s: other builds derive another key", got)
	}
	keys := [][]byte{
		one, derive(t, "tokens", secretTwo)[0], derive(t, "token", secretOne)[0], derive(t, "", secretOne)[0],
		derive(t, "midair session cookie", secretOne)[0],
	}
	for i, k := range keys {
		if len(k) != 32 || slices.ContainsFunc(keys[i+1:], func(other []byte) bool { return bytes.Equal(k, other) }) {
			t.Errorf("key %d: %x", i, k)
		}
	}
	if !bytes.Equal(derive(t, "tokens", secretOne)[0], one) {
		t.Error("the key of the second call is another one")
	}
}

// Whatever one of two processes makes with its first key, the other one accepts: before the keys are handed over, after that, and
// when the new process has one key more in its configuration.
func TestDerivedKeysFollowTheRing(t *testing.T) {
	before, _ := session.NewKeyRing([]byte(secretOne))
	after, _ := session.NewKeyRing([]byte(secretTwo), []byte(secretOne))
	state, err := before.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := after.UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]*session.KeyRing{"old to new": {before, after}, "new to old": {after, before}} {
		made := pair[0].Derive("tokens")[0]
		if !slices.ContainsFunc(pair[1].Derive("tokens"), func(k []byte) bool { return bytes.Equal(k, made) }) {
			t.Errorf("%s: the key is not accepted", name)
		}
	}
	if all := after.Derive("tokens"); len(all) != 2 {
		t.Errorf("%d keys, want those of both secrets", len(all))
	}
}

// A caller may do what it likes with the keys that it gets, and a ring without a secret derives from the key that it makes.
func TestDerivedKeysBelongToTheCaller(t *testing.T) {
	var k session.KeyRing
	first := k.Derive("tokens")[0]
	kept := bytes.Clone(first)
	clear(first)
	if again := k.Derive("tokens")[0]; !bytes.Equal(again, kept) {
		t.Error("the key has changed")
	}
}
