package stateless_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/midair-go/midair/internal/compat/sessions/stateless"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/upgrade"
)

const (
	older = "a secret of the old configuration, long enough"
	newer = "a secret of the new configuration, long enough"
)

func tokens(k *session.KeyRing) stateless.Tokens {
	return stateless.Tokens{Keys: k, Issuer: "shop", Audience: "api", Lifetime: 10 * time.Minute}
}

func ring(t testing.TB, secrets ...string) *session.KeyRing {
	t.Helper()
	var all [][]byte
	for _, s := range secrets {
		all = append(all, []byte(s))
	}
	k, err := session.NewKeyRing(all...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func Example() {
	keys, err := session.NewKeyRing([]byte("32 bytes or more from where the program keeps its secrets"))
	if err != nil {
		fmt.Println(err)
	}
	tokens := stateless.Tokens{Keys: keys, Issuer: "shop", Audience: "api", Lifetime: 10 * time.Minute}
	token, err := tokens.Sign("ann")
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(tokens.Verify(token))
	// Output: ann <nil>
}

// serviceRole serves until it has handed over to its successor, and hands the key ring over with upgrade.Keep. The first
// generation has a ring without a secret of its own, the next ones find a secret in their configuration.
func serviceRole() int {
	up, err := upgrade.New(upgrade.Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer up.Close()
	keys := &session.KeyRing{}
	if os.Getenv("SECRET") != "" {
		keys, err = session.NewKeyRing([]byte(os.Getenv("SECRET")))
	}
	up.Keep("keys", keys)
	os.Setenv("SECRET", newer) // for the next generation
	ln, listenErr := up.Listen("tcp", "127.0.0.1:0")
	if err = errors.Join(err, listenErr); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("listening on", ln.Addr())
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, _ *http.Request) {
		token, err := tokens(keys).Sign("ann")
		fmt.Fprint(w, token, err)
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
		user, err := tokens(keys).Verify(r.Header.Get("Authorization"))
		fmt.Fprint(w, os.Getpid(), " ", user, " ", err)
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, up.Restart(r.Context())) })
	srv := &http.Server{Handler: mux}
	err = up.Run(context.Background(), func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Shutdown(context.Background()) })
		defer stop()
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	fmt.Println("run:", err)
	return 0
}

// A token lives through upgrades: three generations serve one after another, the second one with a new secret in its
// configuration, and each accepts the tokens of all of them.
func TestTokensOutliveUpgrades(t *testing.T) {
	p := testutil.Start(t, "service", testutil.Cfg{})
	base := "http://" + strings.TrimSpace(p.WaitOutput(30*time.Second, "listening on"))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	ask := func(path, token string) string {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", base+path, nil)
		req.Header.Set("Authorization", token)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return strings.TrimSuffix(string(body), "<nil>")
	}
	var made []string
	generations := map[string]bool{}
	for generation := range 3 {
		made = append(made, ask("/login", ""))
		for _, token := range made {
			pid, answer, _ := strings.Cut(ask("/me", token), " ")
			if generations[pid] = true; answer != "ann " {
				t.Errorf("generation %d, process %s: %s", generation, pid, answer)
			}
		}
		if generation < 2 {
			if got := ask("/upgrade", ""); got != "" {
				t.Fatalf("upgrade: %s", got)
			}
		}
	}
	if len(generations) != 3 {
		t.Errorf("%d processes have answered, want 3", len(generations))
	}
}

// Rotation: while two processes run, each accepts what the other one signs. The new secret signs nothing before its process is
// alone, and a secret that is nowhere any more is worth nothing.
func TestRotationIsOneOfTheTokensToo(t *testing.T) {
	before, after := ring(t, older), ring(t, newer, older)
	state, err := before.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := after.UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	alone, without := ring(t, newer, older), ring(t, newer)
	for name, step := range map[string]struct {
		by, to *session.KeyRing
		ok     bool
	}{
		"old to new":           {before, after, true},
		"new to old":           {after, before, true},
		"old to the next":      {before, alone, true},
		"the next to the new":  {alone, after, true},
		"the next to the old":  {alone, before, false},
		"old to the last":      {before, without, false},
		"the next to the last": {alone, without, true},
	} {
		token, err := tokens(step.by).Sign("ann")
		if err != nil {
			t.Fatal(err)
		}
		user, err := tokens(step.to).Verify(token)
		if ok := err == nil && user == "ann"; ok != step.ok {
			t.Errorf("%s: %q, %v", name, user, err)
		}
	}
}

// A token ends when it says so.
func TestTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tokens(ring(t, older))
		token, err := s.Sign("ann")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute + 30*time.Second) // another host's clock may be late
		if _, err := s.Verify(token); err != nil {
			t.Error(err)
		}
		time.Sleep(31 * time.Second)
		if _, err := s.Verify(token); !errors.Is(err, jwt.ErrTokenExpired) {
			t.Errorf("after its time: %v", err)
		}
	})
}

// What attackers send is refused: another algorithm, no signature, a key of another purpose, another audience or issuer, no end.
func TestForgedTokensAreRefused(t *testing.T) {
	keys := ring(t, older)
	s := tokens(keys)
	end := jwt.NewNumericDate(time.Now().Add(time.Hour))
	good := jwt.MapClaims{"iss": "shop", "aud": "api", "sub": "eve", "exp": end}
	key := keys.Derive("jwt api")[0]
	if user, err := s.Verify(sign(t, jwt.SigningMethodHS256, good, key)); user != "eve" || err != nil {
		t.Fatalf("the good one: %q, %v", user, err)
	}
	forged := map[string]string{
		"none":      sign(t, jwt.SigningMethodNone, good, jwt.UnsafeAllowNoneSignatureType),
		"HS512":     sign(t, jwt.SigningMethodHS512, good, key),
		"the key":   sign(t, jwt.SigningMethodHS256, good, keys.Derive("other")[0]),
		"audience":  sign(t, jwt.SigningMethodHS256, jwt.MapClaims{"iss": "shop", "aud": "web", "exp": end}, key),
		"issuer":    sign(t, jwt.SigningMethodHS256, jwt.MapClaims{"iss": "eve", "aud": "api", "exp": end}, key),
		"no end":    sign(t, jwt.SigningMethodHS256, jwt.MapClaims{"iss": "shop", "aud": "api"}, key),
		"truncated": strings.TrimRight(sign(t, jwt.SigningMethodHS256, good, key), "=")[:40],
		"empty":     "",
	}
	for name, token := range forged {
		if user, err := s.Verify(token); err == nil || user != "" {
			t.Errorf("%s: accepted as %q", name, user)
		}
	}
}

func sign(t *testing.T, m jwt.SigningMethod, claims jwt.MapClaims, key any) string {
	t.Helper()
	token, err := jwt.NewWithClaims(m, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// What the text of the package says about revocation: a token outlives the logout, and only the supply ends.
func TestALogoutDoesNotReachTokens(t *testing.T) {
	sm := session.NewManager(session.Dir(t.TempDir()), session.Options{Keys: ring(t, older)})
	s := tokens(sm.Keys())
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, errors.Join(session.Renew(r.Context()), session.Put(r.Context(), "user", "ann")))
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		user, ok, err := session.Get[string](r.Context(), "user")
		if !ok || err != nil {
			http.Error(w, "log in", http.StatusUnauthorized)
			return
		}
		token, _ := s.Sign(user)
		fmt.Fprint(w, token)
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, session.Destroy(r.Context())) })
	browse := browser(t, sm.Middleware(mux))
	browse("/login")
	token, _ := browse("/token")
	browse("/logout")
	if _, status := browse("/token"); status != http.StatusUnauthorized {
		t.Errorf("after the logout: %d", status)
	}
	if user, err := s.Verify(token); user != "ann" || err != nil {
		t.Errorf("the token: %q, %v; the text of the package is wrong", user, err)
	}
}
