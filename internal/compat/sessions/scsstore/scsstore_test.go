package scsstore_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/midair-go/midair/internal/compat/sessions/scsstore"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// manager is made before the tests, because scs.New starts a goroutine that cannot be ended without a data race.
var manager = scs.New()

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) { testutil.Main(m, nil) }

// on runs a test with the adapter on engines that need no server, on fake time.
func on(t *testing.T, test func(t *testing.T, s scsstore.Store)) {
	engines := map[string]func(t *testing.T) session.Store{
		"Dir":    func(t *testing.T) session.Store { return session.Dir(t.TempDir()) },
		"Memory": func(*testing.T) session.Store { return session.Memory() },
	}
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, scsstore.Store{Sessions: open(t)}) })
		})
	}
}

func commit(t *testing.T, s scsstore.Store, token, data string, life time.Duration) {
	t.Helper()
	if err := s.Commit(token, []byte(data), time.Now().Add(life)); err != nil {
		t.Fatal(err)
	}
}

// want checks what Find says; data "" means that there is nothing.
func want(t *testing.T, s scsstore.Store, token, data string) {
	t.Helper()
	got, found, err := s.Find(token)
	if string(got) != data || found != (data != "") || err != nil {
		t.Errorf("Find(%q) = %q, %v, %v, want %q", token, got, found, err, data)
	}
}

// What the suites of the stores of scs check, as far as the interface of scs can say it: find, missing, new, updated, expired,
// committed again after that, deleted.
func TestTheAdapterIsAStore(t *testing.T) {
	on(t, func(t *testing.T, s scsstore.Store) {
		want(t, s, "missing", "")
		want(t, s, "", "")
		commit(t, s, "token", "data", time.Minute)
		want(t, s, "token", "data")
		want(t, s, "toke", "")
		commit(t, s, "token", "new data\x00with a zero", 2*time.Minute)
		time.Sleep(90 * time.Second)
		want(t, s, "token", "new data\x00with a zero")
		time.Sleep(31 * time.Second)
		want(t, s, "token", "")
		commit(t, s, "token", "again", time.Minute)
		want(t, s, "token", "again")
		for range 2 {
			if err := s.Delete("token"); err != nil {
				t.Error(err)
			}
			want(t, s, "token", "")
		}
	})
}

// All returns living sessions of scs alone, under their tokens.
func TestAllReturnsTokens(t *testing.T) {
	on(t, func(t *testing.T, s scsstore.Store) {
		all, err := s.AllCtx(t.Context())
		if all == nil || len(all) != 0 || err != nil {
			t.Errorf("at first: %v, %v", all, err)
		}
		for _, token := range []string{"short", "deleted", "a", "b"} {
			commit(t, s, token, "of "+token, time.Duration(len(token))*time.Hour)
		}
		if err := s.Delete("deleted"); err != nil {
			t.Error(err)
		}
		time.Sleep(30 * time.Minute)
		commit(t, s, "short", "is short", time.Second)
		time.Sleep(2 * time.Second)
		all, err = s.AllCtx(t.Context())
		if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []string{"a", "b"}) || string(all["a"]) != "of a" || err != nil {
			t.Errorf("%v, %v", all, err)
		}
	})
}

// An engine that cannot list its records is an error of Iterate alone.
func TestAnEngineMayNotList(t *testing.T) {
	s := scsstore.Store{Sessions: struct{ session.Store }{session.Memory()}}
	if _, err := s.AllCtx(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// The manager of scs works with the adapter, and what Iterate finds can be destroyed: its context has the token.
func TestTheManagerOfScsIteratesAndDestroys(t *testing.T) {
	s := scsstore.Store{Sessions: session.Dir(t.TempDir())}
	manager.Store = s
	var tokens []string
	for _, user := range []string{"ann", "joe"} {
		ctx, err := manager.Load(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		manager.Put(ctx, "user", user)
		token, _, err := manager.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	for token := range must(s.AllCtx(t.Context())) {
		ctx, err := manager.Load(t.Context(), token)
		if err == nil && manager.GetString(ctx, "user") == "ann" {
			err = manager.Destroy(ctx)
		}
		if err != nil {
			t.Error(err)
		}
	}
	for i, there := range []bool{false, true} {
		if _, found, err := s.Find(tokens[i]); found != there || err != nil {
			t.Errorf("session %d: %v, %v", i, found, err)
		}
	}
}

func must(all map[string][]byte, err error) map[string][]byte {
	if err != nil {
		panic(err)
	}
	return all
}
