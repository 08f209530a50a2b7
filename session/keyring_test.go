package session_test

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

var (
	_ encoding.BinaryMarshaler   = (*session.KeyRing)(nil)
	_ encoding.BinaryUnmarshaler = (*session.KeyRing)(nil)
)

func ring(t testing.TB, letters string) *session.KeyRing {
	t.Helper()
	var secrets [][]byte
	for _, l := range []byte(letters) {
		secrets = append(secrets, bytes.Repeat([]byte{l}, 32))
	}
	k, err := session.NewKeyRing(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// letters are the keys in the order in which they are used, as far as ring made them.
func letters(t testing.TB, k *session.KeyRing) string {
	t.Helper()
	data, err := k.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var names []byte
	for rest := data[1:]; len(rest) > 0; {
		n := int(rest[0])<<8 | int(rest[1])
		names = append(names, rest[2])
		rest = rest[2+n:]
	}
	return string(names)
}

// accepts reports whether a manager with the ring accepts a cookie that one with another ring made.
func accepts(t testing.TB, by, made *session.KeyRing) bool {
	t.Helper()
	dir := session.Dir(t.TempDir())
	v := newVisitor(t, newSite(dir, session.Options{Keys: made}))
	v.get("/cohort")
	return session.Open(session.NewManager(dir, session.Options{Keys: by}), v.value())
}

// The first key seals, all open.
func TestTheFirstKeySealsAndAllOpen(t *testing.T) {
	if !accepts(t, ring(t, "ba"), ring(t, "a")) {
		t.Error("the second key does not open")
	}
	if accepts(t, ring(t, "a"), ring(t, "ba")) {
		t.Error("the second key seals")
	}
	if accepts(t, ring(t, "c"), ring(t, "a")) || accepts(t, &session.KeyRing{}, &session.KeyRing{}) {
		t.Error("an unknown key opens")
	}
}

// A cookie of an old key is made anew by the first one.
func TestACookieOfAnOldKeyIsMadeAnew(t *testing.T) {
	dir := session.Dir(t.TempDir())
	v := newVisitor(t, newSite(dir, session.Options{Keys: ring(t, "a")}))
	v.want("/count", "1")
	v = v.with(newSite(dir, session.Options{Keys: ring(t, "ba")}))
	v.want("/count", "2")
	v = v.with(newSite(dir, session.Options{Keys: ring(t, "b")}))
	v.want("/count", "3")
}

// "A key is accepted before it seals": at no time does one of two processes seal what the other cannot open.
func TestAKeyIsAcceptedEverywhereBeforeItSeals(t *testing.T) {
	old, next := ring(t, "a"), ring(t, "ba") // a new key in the configuration
	testutil.HandOver(t, old, next)
	if got := letters(t, next); got != "ab" {
		t.Errorf("the candidate has %s", got)
	}
	if !accepts(t, old, next) || !accepts(t, next, old) {
		t.Error("a cookie of one is unknown to the other")
	}
	third := ring(t, "ba")
	testutil.HandOver(t, next, third)
	if got := letters(t, third); got != "ba" {
		t.Errorf("the next one has %s", got)
	}
	if !accepts(t, next, third) || !accepts(t, third, next) {
		t.Error("a cookie of one is unknown to the other")
	}
}

// A key that a candidate has minted is accepted after its abort.
func TestAKeyOfACandidateIsAcceptedAfterItsAbort(t *testing.T) {
	old, next := ring(t, "a"), ring(t, "b")
	stray := ring(t, "b") // the candidate before it has got the keys
	testutil.HandOver(t, old, next)
	if !accepts(t, old, next) {
		t.Error("the candidate seals with a key that the old one does not know yet")
	}
	testutil.HandOver(t, next, old)
	if got := letters(t, old); got != "ab" {
		t.Errorf("the old one has %s", got)
	}
	if !accepts(t, old, stray) || !accepts(t, old, next) {
		t.Error("a cookie of the candidate is unknown")
	}
	other := ring(t, "c")
	testutil.HandOver(t, other, old)
	if got := letters(t, old); got != "cab" && got != "acb" {
		t.Errorf("after another one it has %s", got)
	}
}

// Random keys pass from process to process and do not pile up.
func TestRandomKeysDoNotPileUp(t *testing.T) {
	first := &session.KeyRing{}
	now := first
	for range 3 * session.MaxKeys {
		next := &session.KeyRing{}
		testutil.HandOver(t, now, next)
		testutil.HandOver(t, now, next)
		now = next
	}
	if a, b := letters(t, first), letters(t, now); a != b {
		t.Errorf("%d keys became %d", len(a), len(b))
	}
	if !accepts(t, now, first) || !accepts(t, first, now) {
		t.Error("the key was lost on the way")
	}

	for n := range byte(3 * session.MaxKeys) { // processes that insist on keys of their own
		testutil.HandOver(t, ring(t, string([]byte{'A' + n})), now)
	}
	if n := len(letters(t, now)); n > session.MaxKeys {
		t.Errorf("%d keys", n)
	}
	if !accepts(t, now, first) {
		t.Error("strange keys pushed out the own one")
	}
}

// A ring may be read and fed at the same time.
func TestARingMayBeUsedWhileItIsFed(t *testing.T) {
	k := &session.KeyRing{}
	data, _ := ring(t, "abc").MarshalBinary()
	v := newVisitor(t, newSite(session.Dir(t.TempDir()), session.Options{Keys: k}))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				if err := k.UnmarshalBinary(data); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 50 {
				if _, err := k.MarshalBinary(); err != nil {
					t.Error(err)
				}
				v.with(v.h).get("/cohort")
			}
		})
	}
	all.Wait()
}

// Secrets that are too short or too many are refused with their place.
func TestBadSecretsAreRefused(t *testing.T) {
	good := bytes.Repeat([]byte("x"), 32)
	tests := map[string][][]byte{
		"Short": {good, good[:31]}, "Long": {make([]byte, 1025)}, "Empty": {nil},
		"Many": bytes.SplitAfter(bytes.Repeat([]byte("0123456789012345678901234567890123\n"), session.MaxKeys), []byte("\n"))[:0],
	}
	for range session.MaxKeys + 1 {
		tests["Many"] = append(tests["Many"], good)
	}
	for name, secrets := range tests {
		if k, err := session.NewKeyRing(secrets...); err == nil || k != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The bytes are those of the builds that are in use: what they sent is taken, and what is sent they take.
func TestOlderAndNewerBuildsUnderstandEachOther(t *testing.T) {
	const golden = "01" + "0020" + "6161616161616161616161616161616161616161616161616161616161616161" +
		"0028" + "62626262626262626262626262626262626262626262626262626262626262626262626262626262"
	own, err := session.NewKeyRing(bytes.Repeat([]byte{'a'}, 32), bytes.Repeat([]byte{'b'}, 40))
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	taken := &session.KeyRing{}
	if err := taken.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*session.KeyRing{own, taken} {
		if got, err := k.MarshalBinary(); err != nil || hex.EncodeToString(got) != golden {
			t.Errorf("%x, %v", got, err)
		}
	}
}

// A later build may send the keys in the common format, with a checksum and more fields.
func TestKeysInTheCommonFormatAreTaken(t *testing.T) {
	data, err := ring(t, "ab").MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	f := kept.Format{Magic: "midair-session\x00", Version: 1}
	common := kept.Append32(f.Begin(), data[1:])
	for _, b := range [][]byte{f.Seal(bytes.Clone(common)), f.Seal(append(bytes.Clone(common), "more"...))} {
		k := &session.KeyRing{}
		if err := k.UnmarshalBinary(b); err != nil || letters(t, k) != "ab" {
			t.Errorf("%s, %v", letters(t, k), err)
		}
		short := f.Seal(kept.Append32(f.Begin(), kept.Append16(nil, []byte("abc"))))
		if err := k.UnmarshalBinary(short); !errors.Is(err, kept.ErrDamaged) || !strings.HasSuffix(err.Error(), "key 1: 3 bytes, want 32 to 1024") {
			t.Errorf("a short key: %v", err)
		}
		b[20] ^= 1
		if err := k.UnmarshalBinary(b); !errors.Is(err, kept.ErrDamaged) {
			t.Errorf("damaged: %v", err)
		}
	}
	f.Version = 2
	if err := (&session.KeyRing{}).UnmarshalBinary(f.Seal(f.Begin())); !errors.Is(err, kept.ErrLater) {
		t.Errorf("a later version: %v", err)
	}
	if err := (&session.KeyRing{}).UnmarshalBinary([]byte("keys of another kind")); !errors.Is(err, kept.ErrForeign) {
		t.Errorf("another kind: %v", err)
	}
}

// What is damaged changes nothing.
func TestDamagedKeysChangeNothing(t *testing.T) {
	k := ring(t, "ab")
	data, _ := k.MarshalBinary()
	bad := [][]byte{nil, {}, {1}, {2}, data[:len(data)-1], data[:2], append([]byte{9}, data[1:]...), append(data, 0)}
	for _, b := range append(bad, append(data, 0, 1, 'x')) {
		if err := k.UnmarshalBinary(b); err == nil {
			t.Errorf("%x was taken", b)
		}
	}
	if got := letters(t, k); got != "ab" {
		t.Errorf("%s", got)
	}
}

// The secret of a directory is one for all processes, and cookies outlive all of them.
func TestTheSecretOfADirectoryOutlivesItsProcesses(t *testing.T) {
	dir := t.TempDir()
	secrets := make(chan string, 8)
	var all sync.WaitGroup
	for range cap(secrets) {
		all.Go(func() {
			s, err := session.Dir(dir).Secret(t.Context())
			if err != nil {
				t.Error(err)
			}
			secrets <- string(s)
		})
	}
	all.Wait()
	for first := <-secrets; len(secrets) > 0; {
		if s := <-secrets; s != first || len(s) < 32 {
			t.Fatalf("secrets %q and %q", first, s)
		}
	}
	v := newVisitor(t, newSite(session.Dir(dir), session.Options{}))
	v.want("/count", "1")
	v = v.with(newSite(session.Dir(dir), session.Options{}))
	v.want("/count", "2")
}

// Whatever another process sends, nothing panics, a refusal changes nothing, and what is taken is sent on and opens.
func FuzzKeys(f *testing.F) {
	good, err := ring(f, "ab").MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	common := kept.Format{Magic: "midair-session\x00", Version: 1}
	f.Add(good, false)
	f.Add(good[1:], true)
	f.Add([]byte{1, 0, 32}, false)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal {
			data = common.Seal(kept.Append32(common.Begin(), data))
		}
		k := ring(t, "z")
		if err := k.UnmarshalBinary(data); err != nil {
			if got := letters(t, k); got != "z" {
				t.Fatalf("refused, and the keys are %q", got)
			}
			return
		}
		next := &session.KeyRing{}
		testutil.HandOver(t, k, next)
		if n := len(letters(t, next)); n == 0 || n > session.MaxKeys || !accepts(t, next, k) {
			t.Fatalf("%d keys, or the first of them does not open", n)
		}
	})
}
