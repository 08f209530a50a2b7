package sqlstore

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sessiontest"
)

// Each engine keeps all promises of a Store whatever the options of its driver. TestTwoProcessesKeepThePromisesOfAStore makes the
// same checks with the usual options.
func TestTheOptionsOfADriverChangeNoPromise(t *testing.T) {
	each(t, variants, func(t *testing.T, e engine) {
		sessiontest.Run(t, func(t *testing.T) session.Store { return e.place(t).open(t) })
	})
}

// Two processes on one table see the same, and race like two goroutines.
func TestTwoProcessesKeepThePromisesOfAStore(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		sessiontest.RunTwo(t, func(t *testing.T) (session.Store, []string) {
			p := e.place(t)
			return p.open(t), p.env()
		})
	})
}

// Sessions in a table meet the requirements for their security as those in a directory do.
func TestSessionsInATableAreSecure(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		sessiontest.Security(t, func(t *testing.T) session.Store { return e.place(t).open(t) })
	})
}

// A write that changes nothing is one all the same: MySQL does not count its row.
func TestAWriteOfTheSameIsNoError(t *testing.T) {
	each(t, append(all[:len(all):len(all)], variants...), func(t *testing.T, e engine) {
		store, rev := begin(t, e.place(t))
		expires := later()
		for range 3 {
			if err := store.Touch(t.Context(), "a", expires); err != nil {
				t.Fatalf("Touch = %v", err)
			}
			next, err := store.Swap(t.Context(), "a", rev, []byte("data"), expires)
			if err != nil || next == rev {
				t.Fatalf("Swap = %d, %v", next, err)
			}
			rev = next
		}
	})
}

// All returns each record that lives, and neither expired ones nor the secret; a caller may stop, and write meanwhile.
func TestAllReturnsTheRecordsThatLive(t *testing.T) {
	const n = 250
	each(t, all, func(t *testing.T, e engine) {
		store := e.place(t).open(t)
		if _, err := store.Secret(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			expires := later()
			if i%5 == 0 {
				expires = time.Now().Add(-time.Second)
			}
			if _, err := store.Create(t.Context(), strconv.Itoa(i), []byte(strconv.Itoa(i)), expires); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[string]bool{}
		for rec, err := range store.All(t.Context()) {
			if err != nil || rec.Rev == 0 || rec.Expires.Before(time.Now()) || seen[string(rec.Data)] {
				t.Fatalf("%q at %d until %v: %v", rec.Data, rec.Rev, rec.Expires, err)
			}
			seen[string(rec.Data)] = true
			if err := store.Delete(t.Context(), string(rec.Data)); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) != n*4/5 {
			t.Fatalf("All has returned %d records, want %d", len(seen), n*4/5)
		}
		for rec := range store.All(t.Context()) {
			t.Fatalf("%q is left", rec.Data)
		}
	})
}

// All processes on a table get one secret, whoever asks first.
func TestTheSecretIsOne(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		got := make(chan string, 8)
		for range cap(got) {
			store := p.open(t)
			go func() {
				secret, err := store.Secret(context.Background())
				if err != nil {
					secret = []byte(err.Error())
				}
				got <- string(secret)
			}()
		}
		first := <-got
		for range cap(got) - 1 {
			if s := <-got; s != first || len(s) < 40 {
				t.Fatalf("the secrets are %q and %q", first, s)
			}
		}
	})
}
