package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// A write whose answer is lost after the server has made it succeeds, and is made once: the store asks again on another connection,
// and finds its own revision.
func TestAWriteWithoutItsAnswerIsMadeOnce(t *testing.T) {
	each(t, onServers, func(t *testing.T, e engine) {
		here := e.place(t)
		direct := here.open(t)
		p, x := here.through(t)
		store, rev := begin(t, p)
		ctx := soon(t, 20*time.Second)

		x.Cut("LOST-1", 1)
		next, err := store.Swap(ctx, "a", rev, []byte("LOST-1"), later())
		if err != nil {
			t.Fatal(err)
		}
		want(t, direct, "a", "LOST-1", next)

		x.Cut("LOST-2", 1)
		created, err := store.Create(ctx, "b", []byte("LOST-2"), later())
		if err != nil {
			t.Fatal(err)
		}
		want(t, direct, "b", "LOST-2", created)
		if x.Cuts() != 2 {
			t.Fatalf("%d connections were cut, want 2", x.Cuts())
		}
	})
}

func want(t *testing.T, store session.Store, id, data string, rev uint64) {
	t.Helper()
	rec, err := store.Load(t.Context(), id)
	if err != nil || string(rec.Data) != data || rec.Rev != rev {
		t.Fatalf("Load(%s) = %q at %d, %v; want %q at %d", id, rec.Data, rec.Rev, err, data, rev)
	}
}

// If another process replaces the record after the answer was lost, nobody knows whether the write was made: the error says neither
// that it was, nor that it was not.
func TestAReplacedWriteWithoutItsAnswerIsNoConflict(t *testing.T) {
	each(t, onServers, func(t *testing.T, e engine) {
		here := e.place(t)
		direct := here.open(t)
		p, x := here.through(t)
		store, rev := begin(t, p)
		x.onCut = func() { // between the first attempt and the second
			rec, err := direct.Load(context.Background(), "a")
			if err == nil {
				_, err = direct.Swap(context.Background(), "a", rec.Rev, []byte("theirs"), later())
			}
			if err != nil {
				t.Error(err)
			}
		}
		x.Cut("LOST", 1)
		_, err := store.Swap(soon(t, 20*time.Second), "a", rev, []byte("LOST"), later())
		if err == nil || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) {
			t.Fatalf("Swap = %v", err)
		}
		t.Log(err)
	})
}

// A counter in a session is exact although answers of the database are lost all the time.
func TestACounterIsExactWhileAnswersAreLost(t *testing.T) {
	const requests = 60
	each(t, onServers, func(t *testing.T, e engine) {
		p, x := e.place(t).through(t)
		db := p.db(t)
		store := p.on(t, db)
		defer store.Close()
		sm := session.NewManager(store, session.Options{})
		h := sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := 0
			err := session.Update(r.Context(), func(v *session.Values) error {
				n = 0
				if _, err := v.Get("n", &n); err != nil {
					return err
				}
				n++
				return v.Put("n", n)
			})
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, n)
		}))
		cookie := ""
		last := ""
		for i := range requests {
			x.Cut(`"n":`, i%2) // a part of each envelope that is written
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", cookie)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != 200 {
				t.Fatalf("request %d: %d %s", i, w.Code, w.Body)
			}
			if c := w.Header().Get("Set-Cookie"); c != "" {
				cookie, _, _ = strings.Cut(c, ";")
			}
			last = w.Body.String()
		}
		if last != fmt.Sprint(requests) || x.Cuts() < requests/3 {
			t.Fatalf("counted %s in %d requests with %d lost answers", last, requests, x.Cuts())
		}
		t.Logf("counted %s in %d requests with %d lost answers", last, requests, x.Cuts())
	})
}
