package canary_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/testutil"
)

func withCookie(opts canary.CookieOptions) *canary.Router {
	return router(canary.Options{Name: "cart", Weight: half, Cookie: newCookie(opts)})
}

// A visitor that one process has met is known to the other: before, while and after both serve.
func TestVisitorsStayThroughAnUpgrade(t *testing.T) {
	before, after := withCookie(canary.CookieOptions{}), withCookie(canary.CookieOptions{})
	early := newVisitor(t)
	side := early.visit(before)
	testutil.HandOver(t, before, after)
	met := newVisitor(t)
	there := met.visit(after) // while both serve
	for range 3 {
		if early.visit(before) != side || early.visit(after) != side ||
			met.visit(before) != there || met.visit(after) != there {
			t.Fatal("a visitor changed sides")
		}
		testutil.HandOver(t, before, after) // the commit brings it once more
	}
	if early.minted != 1 || met.minted != 1 {
		t.Errorf("cookies were replaced: %d and %d", early.minted, met.minted)
	}
}

// An aborted upgrade gives back what the new process has learned, and also with secrets of their own both know all.
func TestVisitorsStayThroughAnAbort(t *testing.T) {
	for name, secrets := range map[string][2][][]byte{
		"random":       {nil, nil},
		"old has one":  {{[]byte("a")}, nil},
		"new has one":  {nil, {[]byte("b")}},
		"both have":    {{[]byte("a")}, {[]byte("b")}},
		"both the one": {{[]byte("a")}, {[]byte("a")}},
	} {
		before := withCookie(canary.CookieOptions{Secrets: secrets[0]})
		after := withCookie(canary.CookieOptions{Secrets: secrets[1]})
		early, met := newVisitor(t), newVisitor(t)
		side := early.visit(before)
		testutil.HandOver(t, before, after)
		there := met.visit(after)
		testutil.HandOver(t, after, before)
		if early.visit(before) != side || met.visit(before) != there || early.minted+met.minted != 2 {
			t.Errorf("%s: a visitor was forgotten", name)
		}
	}
}

// A process that has minted before it got the state goes on to know those visitors.
func TestStateThatComesLateForgetsNobody(t *testing.T) {
	before, after := withCookie(canary.CookieOptions{}), withCookie(canary.CookieOptions{})
	early, own := newVisitor(t), newVisitor(t)
	side, there := early.visit(before), own.visit(after)
	testutil.HandOver(t, before, after)
	if early.visit(after) != side || own.visit(after) != there || early.minted+own.minted != 2 {
		t.Error("a visitor was forgotten")
	}
	late := newVisitor(t)
	late.visit(after)
	late.visit(before)
	if late.minted != 1 {
		t.Error("the old process does not know who the new one meets")
	}
}

// A secret that was configured goes on to seal, so that other hosts know whom this one meets.
func TestStateDoesNotReplaceASecret(t *testing.T) {
	secret := canary.CookieOptions{Secrets: [][]byte{[]byte("b")}}
	here, host := withCookie(secret), withCookie(secret)
	testutil.HandOver(t, withCookie(canary.CookieOptions{}), here)
	v := newVisitor(t)
	v.visit(here)
	if v.visit(host); v.minted != 1 {
		t.Error("the secret of the other process seals")
	}
}

// A thousand upgrades do not make the state grow, whatever the secrets do.
func TestStateDoesNotGrow(t *testing.T) {
	for name, v := range map[string]struct {
		secret func(i int) []byte
		after  int // as many upgrades it may grow
	}{
		"random":     {func(int) []byte { return nil }, 0},
		"the same":   {func(int) []byte { return []byte("a") }, 0},
		"always new": {func(i int) []byte { return []byte{byte(i), byte(i >> 8), 1} }, 8},
	} {
		size := 0
		rt := withCookie(canary.CookieOptions{Secrets: [][]byte{v.secret(0)}})
		for i := range 1000 {
			n := stateSize(t, rt)
			if i > v.after && n > size {
				t.Fatalf("%s: %d bytes after %d upgrades, %d before", name, n, i, size)
			}
			size = n
			next := withCookie(canary.CookieOptions{Secrets: [][]byte{v.secret(i + 1)}})
			testutil.HandOver(t, rt, next)
			rt = next
		}
	}
}

func stateSize(t *testing.T, rt *canary.Router) int {
	data, err := rt.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return len(data)
}

// The state is that of the cookie with the same name: another one keeps its own secret.
func TestStateOfAnotherCookie(t *testing.T) {
	v := newVisitor(t)
	from := withCookie(canary.CookieOptions{})
	v.visit(from)
	to := router(canary.Options{Name: "cart", Weight: half, Cookie: canary.NewCookie("other", canary.CookieOptions{})})
	testutil.HandOver(t, from, to)
	sealed := v.cookies["visitor"]
	v.cookies["other"] = sealed
	v.visit(to)
	if v.cookies["other"] == sealed {
		t.Error("a cookie was opened under another name")
	}
	testutil.HandOver(t, to, router(canary.Options{Name: "cart"})) // one without a cookie
}

// The options decide, not the state: neither a weight nor a salt comes back from elsewhere. Another salt is logged.
func TestStateChangesNoDecision(t *testing.T) {
	var log bytes.Buffer
	from := router(canary.Options{Name: "cart", Salt: "\xff", Weight: canary.Fixed(1)})
	logger := logqueue.Wrap(slog.New(slog.NewTextHandler(&log, nil)))
	to := router(canary.Options{Name: "cart", Logger: logger})
	testutil.HandOver(t, from, to)
	logqueue.Flush(logger)
	if ask(to) != "stable" || to.Status().Weight != 0 {
		t.Error("the weight of the other process is in force")
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "other_weight=1") {
		t.Errorf("log %q", log.String())
	}
	log.Reset()
	testutil.HandOver(t, router(canary.Options{Name: "cart"}), to)
	logqueue.Flush(logger)
	if log.Len() != 0 {
		t.Errorf("the same salt is logged: %s", log.String())
	}
	testutil.HandOver(t, from, router(canary.Options{Name: "other", Salt: "\xff", Logger: logger}))
	logqueue.Flush(logger)
	if log.Len() != 0 {
		t.Errorf("a salt of any bytes is not the same on the other side: %s", log.String())
	}
}

// What is damaged, foreign or from a later version is refused, and changes nothing.
func TestBadStateIsRefused(t *testing.T) {
	good, err := withCookie(canary.CookieOptions{}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	rt := withCookie(canary.CookieOptions{})
	v := newVisitor(t)
	v.visit(rt)
	refuse := func(data []byte, reason string) {
		t.Helper()
		if err := rt.UnmarshalBinary(data); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("error %v, want one that says %q", err, reason)
		}
	}
	refuse(nil, "not of this kind")
	refuse([]byte("something else altogether"), "not of this kind")
	refuse(sealState(2, `{}`), "version 2, this process reads up to 1")
	refuse(sealState(1, `{"name":1}`), "canary: the state which the other process sent is damaged: stop and start the service once instead of upgrading: json: cannot")
	refuse(sealState(1, `{`), "upgrading: unexpected end of JSON")
	for i := range good {
		refuse(good[:i], "stop and start the service once")
		bad := bytes.Clone(good)
		bad[i] ^= 4
		refuse(bad, "stop and start the service once")
	}
	v.visit(rt)
	if v.minted != 1 {
		t.Error("a state that was refused has changed something")
	}
}

// The bytes are those of the builds that are in use: what is sent they understand, and the keys that they sent open the
// cookies which they sealed.
func TestOlderAndNewerBuildsUnderstandEachOther(t *testing.T) {
	const golden = "canary\x01" + `{"name":"cart","salt":"/3NhbHQ=","weight":0.25,"cookie":"visitor","keys":[` +
		`"NLHwWRS3OBenlQJEeGKyn58bnLscyZRtV8JAlZaQqeQ=","7KdW17un9qO8mbWAqH9Ylxb1uCaiof0RZZrMaGrFDxA="]}` + "\xfc$\xf4\x9f"
	const plain = "canary\x01" + `{"name":"cart","salt":"Y2FydA==","weight":0}` + "ys\xe1j"
	secrets := canary.CookieOptions{Secrets: [][]byte{[]byte("a"), []byte("b")}}
	old := router(canary.Options{Name: "cart", Salt: "\xffsalt", Weight: canary.Fixed(0.25), Cookie: newCookie(secrets)})
	for want, rt := range map[string]*canary.Router{golden: old, plain: router(canary.Options{Name: "cart"})} {
		if got, err := rt.MarshalBinary(); string(got) != want || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	v, rt := newVisitor(t), withCookie(canary.CookieOptions{})
	v.visit(old)
	if err := rt.UnmarshalBinary([]byte(golden)); err != nil {
		t.Fatal(err)
	}
	if v.visit(rt); v.minted != 1 {
		t.Error("a visitor of the older build is new to this one")
	}
}

// A later build may add fields, and may send keys of another kind.
func TestUnknownFieldsAndKeysAreIgnored(t *testing.T) {
	rt := withCookie(canary.CookieOptions{})
	const later = `{"name":"cart","salt":"Y2FydA==","cookie":"visitor","keys":["AAAA"],"later":[1]}`
	err := rt.UnmarshalBinary(sealState(1, later))
	if err != nil {
		t.Fatal(err)
	}
	v := newVisitor(t)
	if side := v.visit(rt); v.visit(rt) != side || v.minted != 1 {
		t.Error("the visitor is not known again")
	}
}

// State is taken and given while requests are decided.
func TestStateBesideRequests(t *testing.T) {
	a, b := withCookie(canary.CookieOptions{}), withCookie(canary.CookieOptions{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				newVisitor(t).visit(a)
				newVisitor(t).visit(b)
			}
		})
	}
	for range 100 {
		testutil.HandOver(t, a, b)
		testutil.HandOver(t, b, a)
	}
	wg.Wait()
}

// No bytes can do more than be refused.
func FuzzState(f *testing.F) {
	good, err := withCookie(canary.CookieOptions{}).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add([]byte(`{"keys":["AAAA",""]}`), true)
	f.Fuzz(func(t *testing.T, data []byte, wrap bool) {
		if wrap {
			data = sealState(1, string(data))
		}
		rt := withCookie(canary.CookieOptions{})
		_ = rt.UnmarshalBinary(data)
		v := newVisitor(t)
		if side := v.visit(rt); v.visit(rt) != side {
			t.Error("the visitor changed sides")
		}
	})
}

// sealState is a state with a body of the test's own.
func sealState(version byte, body string) []byte {
	data := append([]byte("canary"), version)
	data = append(data, body...)
	return binary.BigEndian.AppendUint32(data, crc32.ChecksumIEEE(data))
}
