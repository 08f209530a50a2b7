package canary_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/testutil"
)

var half = canary.Fixed(0.5)

func newCookie(opts canary.CookieOptions) *canary.Cookie { return canary.NewCookie("visitor", opts) }

// The id of a visitor is minted with the first answer, and that answer is decided by it already.
func TestVisitorStaysFromTheFirstRequestOn(t *testing.T) {
	rt := router(canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})})
	sides := map[string]int{}
	for range 200 {
		v := newVisitor(t)
		first := v.visit(rt)
		sides[first]++
		for range 5 {
			if v.visit(rt) != first {
				t.Fatal("the visitor changed sides")
			}
		}
		if v.minted != 1 {
			t.Fatalf("%d cookies in 6 requests", v.minted)
		}
	}
	if sides["canary"] < 65 || sides["stable"] < 65 {
		t.Errorf("sides %v at weight 0.5", sides)
	}
}

// A ramp only adds visitors. After a rollback, a new ramp with the same salt selects the same visitors at each step. A ramp with
// another salt selects others.
func TestANewRampSelectsTheSameVisitors(t *testing.T) {
	var weight dial
	opts := canary.Options{Weight: weight.weight, Cookie: newCookie(canary.CookieOptions{})}
	rt := router(opts)
	opts.Salt = "again"
	other := router(opts)
	differ := 0
	for range 200 {
		v := newVisitor(t)
		first, again, salted := v.ramp(rt, &weight), v.ramp(rt, &weight), v.ramp(other, &weight)
		if v.minted != 1 {
			t.Fatalf("a visitor was given %d cookies", v.minted)
		}
		joined := slices.Index(first, "canary")
		if slices.Contains(first[joined:len(first)-1], "stable") {
			t.Errorf("a visitor left while the weight grew: %q", first)
		}
		if !slices.Equal(again, first) {
			t.Errorf("the sides of a visitor are %q in the second ramp, and were %q in the first", again, first)
		}
		if !slices.Equal(salted, first) {
			differ++
		}
	}
	if differ < 50 {
		t.Errorf("another salt changes the ramp of %d visitors of 200 only", differ)
	}
}

// The cookie is for the server only, for the whole site, and goes over TLS only where it came over TLS.
func TestCookieAttributes(t *testing.T) {
	for _, v := range []struct {
		opts canary.CookieOptions
		tls  bool
		want string
	}{
		{canary.CookieOptions{}, false, "; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax"},
		{canary.CookieOptions{}, true, "; Path=/; Max-Age=31536000; HttpOnly; Secure; SameSite=Lax"},
		{canary.CookieOptions{Secure: true, MaxAge: time.Minute}, false,
			"; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax"},
		{canary.CookieOptions{MaxAge: -1}, false, "; Path=/; HttpOnly; SameSite=Lax"},
	} {
		r, w := request(), httptest.NewRecorder()
		if v.tls {
			r.TLS = &tls.ConnectionState{}
		}
		router(canary.Options{Weight: half, Cookie: newCookie(v.opts)}).ServeHTTP(w, r)
		got := w.Header().Get("Set-Cookie")
		if !strings.HasPrefix(got, "visitor=") || got[strings.Index(got, ";"):] != v.want {
			t.Errorf("Set-Cookie: %s, want …%s", got, v.want)
		}
	}
}

// No cookie is set where it decides nothing.
func TestCookieOnlyWhereItDecides(t *testing.T) {
	cookie := newCookie(canary.CookieOptions{})
	for name, v := range map[string]struct {
		weight  float64
		key     func(*http.Request) string
		headers []string
	}{
		"weight 0": {0, nil, nil}, "weight 1": {1, nil, nil},
		"header": {0.5, nil, []string{"Canary", "true"}},
		"key":    {0.5, byHeader, []string{"User", "u"}},
	} {
		w := httptest.NewRecorder()
		rt := router(headed(canary.Options{Weight: canary.Fixed(v.weight), Key: v.key, Cookie: cookie}, "canary"))
		rt.ServeHTTP(w, request(v.headers...))
		if got := w.Header()["Set-Cookie"]; len(got) != 0 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Where the key is empty the cookie decides.
func TestCookieIsForThoseWithoutKey(t *testing.T) {
	rt := router(canary.Options{Weight: half, Key: byHeader, Cookie: newCookie(canary.CookieOptions{})})
	v := newVisitor(t)
	first := v.visit(rt)
	for range 20 {
		if v.visit(rt) != first {
			t.Fatal("the visitor changed sides")
		}
	}
}

// Several routers share a cookie: also of one request that passes two of them only one id comes.
func TestNestedRoutersShareTheCookie(t *testing.T) {
	cookie := newCookie(canary.CookieOptions{})
	inner := router(canary.Options{Name: "same", Weight: half, Cookie: cookie})
	outer := canary.NewRouter(inner, inner, canary.Options{Name: "same", Weight: half, Cookie: cookie})
	for range 50 {
		v := newVisitor(t)
		first := v.visit(outer)
		if v.minted != 1 {
			t.Fatalf("%d cookies with the first answer", v.minted)
		}
		if v.visit(outer) != first || v.visit(inner) != first || v.minted != 1 {
			t.Fatal("the visitor is not the same for both routers")
		}
	}
}

// The cookie is found among others, and only under its own name.
func TestCookieIsFoundAmongOthers(t *testing.T) {
	rt := router(canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})})
	v := newVisitor(t)
	first := v.visit(rt)
	value := "visitor=" + v.cookies["visitor"]
	for _, lines := range [][]string{
		{value}, {"a=b; " + value}, {value + "; a=b"}, {"a=b;" + value + ";c"}, {"a=b", value},
		{"visitor=forged; " + value},
		{"; ;" + value}, {"not" + value + "; " + value},
	} {
		r, w := request(), httptest.NewRecorder()
		r.Header["Cookie"] = lines
		rt.ServeHTTP(w, r)
		if w.Body.String() != first || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("not found in %q", lines)
		}
	}
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, request("Cookie", "not"+value))
	if w.Header().Get("Set-Cookie") == "" {
		t.Error("found under another name")
	}
}

// Only what this service has sealed is an id: anything else gets a new one.
func TestForgedCookiesAreReplaced(t *testing.T) {
	rt := router(canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})})
	v := newVisitor(t)
	v.visit(rt)
	good := v.cookies["visitor"]
	stranger := newVisitor(t)
	stranger.visit(router(canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})}))

	forged := []string{"", "x", good[1:], good + "A", stranger.cookies["visitor"]}
	for _, letter := range []string{"A", "!", "\n"} {
		forged = append(forged, strings.Repeat(letter, len(good)))
	}
	for i := range 16 { // one bit of each byte
		raw, err := base64.RawURLEncoding.DecodeString(good)
		if err != nil {
			t.Fatal(err)
		}
		raw[i] ^= 1
		forged = append(forged, base64.RawURLEncoding.EncodeToString(raw))
	}
	for _, value := range forged {
		v.visit(rt) // nothing of a good one may be left behind for the next
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, request("Cookie", "visitor="+value))
		if w.Header().Get("Set-Cookie") == "" {
			t.Errorf("%q was taken for an id", value)
		}
	}
}

// A cookie is sealed under its name: with the same secret it is none under another name.
func TestCookieIsBoundToItsName(t *testing.T) {
	secret := canary.CookieOptions{Secrets: [][]byte{[]byte("secret")}}
	v := newVisitor(t)
	v.visit(router(canary.Options{Weight: half, Cookie: canary.NewCookie("other", secret)}))
	v.cookies["visitor"] = v.cookies["other"]
	if v.visit(router(canary.Options{Weight: half, Cookie: newCookie(secret)})); v.minted != 2 {
		t.Error("the cookie was taken under another name")
	}
}

// Guessing does not help: one in 2^64 blocks is an id.
func TestGuessesAreNoIds(t *testing.T) {
	rt := router(canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})})
	for i := range 5000 {
		guess := make([]byte, 16)
		binary.LittleEndian.PutUint64(guess, uint64(i))
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, request("Cookie", "visitor="+base64.RawURLEncoding.EncodeToString(guess)))
		if w.Header().Get("Set-Cookie") == "" {
			t.Fatalf("guess %d was taken for an id", i)
		}
	}
}

// An id is not readable from its cookie: two in a row have nothing in common.
func TestSealedIdsLookRandom(t *testing.T) {
	rt := router(canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})})
	seen := map[string]bool{}
	for range 1000 {
		v := newVisitor(t)
		v.visit(rt)
		half := v.cookies["visitor"][:11]
		if seen[half] {
			t.Fatal("two cookies begin alike")
		}
		seen[half] = true
	}
}

// With a secret of the service's own a visitor is the same on every host and after a restart, and a secret can be
// changed in steps.
func TestSecretsAreSharedAndRotated(t *testing.T) {
	host := func(secrets ...string) *canary.Router {
		var opts canary.CookieOptions
		for _, s := range secrets {
			opts.Secrets = append(opts.Secrets, []byte(s))
		}
		return router(canary.Options{Weight: half, Cookie: newCookie(opts)})
	}
	steps := []*canary.Router{
		host("first"), host("first"), host("first", "second"), host("second", "first"), host("", "second", "first"),
	}
	for range 50 {
		v := newVisitor(t)
		side := v.visit(steps[0])
		for i, h := range steps {
			if v.visit(h) != side || v.minted != 1 {
				t.Fatalf("another visitor at step %d", i)
			}
		}
	}
	anyone := newVisitor(t)
	anyone.visit(host(""))
	if anyone.visit(host("")); anyone.minted != 2 {
		t.Error("an empty secret is used")
	}
	late := newVisitor(t)
	late.visit(steps[3])
	late.visit(host("second"))
	if late.minted != 1 {
		t.Error("the first secret does not seal")
	}
	late.visit(host("first"))
	if late.minted != 2 {
		t.Error("a secret that was taken away still opens")
	}
}

// A name that cannot be sent costs stickiness, and nothing else.
func TestOddCookieNames(t *testing.T) {
	v := newVisitor(t)
	v.visit(router(canary.Options{Weight: half, Cookie: canary.NewCookie("", canary.CookieOptions{})}))
	if v.cookies["canary"] == "" {
		t.Errorf("cookies %v, want one named canary", v.cookies)
	}
	rt := router(canary.Options{Weight: half, Cookie: canary.NewCookie("a b;c", canary.CookieOptions{})})
	seen := map[string]bool{}
	for range 200 {
		seen[newVisitor(t).visit(rt)] = true
	}
	if len(seen) != 2 {
		t.Errorf("sides %v", seen)
	}
}

// A cookie that was not made by NewCookie is none.
func TestZeroCookieIsNone(t *testing.T) {
	v := newVisitor(t)
	v.cookies["a"] = "b"
	rt := router(canary.Options{Weight: half, Cookie: new(canary.Cookie)})
	v.visit(rt)
	testutil.HandOver(t, rt, rt)
	if v.minted != 0 {
		t.Errorf("it was set: %v", v.cookies)
	}
}

// pinned was sealed by an earlier build with the secret "secret"; the rollout "cart" had its visitor on the canary side
// at one half.
const pinned = "GuwDAppg_cCkpjon7zFp0g"

// A later build knows the visitors of an earlier one, and has them on the same side.
func TestCookiesOfEarlierBuildsStayValid(t *testing.T) {
	v := newVisitor(t)
	v.cookies["visitor"] = pinned
	side := v.visit(withCookie(canary.CookieOptions{Secrets: [][]byte{[]byte("secret")}}))
	if side != "canary" || v.minted != 0 {
		t.Errorf("the visitor is on the side %s and was given %d cookies", side, v.minted)
	}
}

// Whatever a client sends as cookies is answered, and is no id unless it was sealed here.
func FuzzCookieHeader(f *testing.F) {
	rt := withCookie(canary.CookieOptions{Secrets: [][]byte{[]byte("secret")}})
	f.Add("visitor=" + pinned)
	f.Add("a=b; visitor=AAAAAAAAAAAAAAAAAAAAAA;;visitor=")
	f.Fuzz(func(t *testing.T, line string) {
		r, w := request(), httptest.NewRecorder()
		r.Header["Cookie"] = []string{line}
		rt.ServeHTTP(w, r)
		known := strings.Contains(line, pinned[:len(pinned)-1]) // the last letter has bits that do not count
		if len(w.Result().Cookies()) == 0 && !known {
			t.Errorf("%q was taken for an id", line)
		}
	})
}
