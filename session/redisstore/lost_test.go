package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/redisstore"
)

// site is a service that counts in the visitor's session.
func site(store session.Store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		var n int
		err := session.Update(r.Context(), func(v *session.Values) error {
			n = 0
			if _, err := v.Get("count", &n); err != nil {
				return err
			}
			n++
			return v.Put("count", n)
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, n)
	})
	return session.NewManager(store, session.Options{}).Middleware(mux)
}

// A visitor keeps the cookie that a site sets.
type visitor struct {
	site   http.Handler
	cookie string
}

func (v *visitor) count(ctx context.Context) (n int, err error) {
	r := httptest.NewRequestWithContext(ctx, "GET", "/count", nil)
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	w := httptest.NewRecorder()
	v.site.ServeHTTP(w, r)
	if set := w.Result().Cookies(); len(set) > 0 {
		v.cookie = set[0].Name + "=" + set[0].Value
	}
	if w.Code != http.StatusOK {
		return 0, errors.New(w.Body.String())
	}
	return strconv.Atoi(w.Body.String())
}

// lossy makes a store behind a network that loses the answer of every n-th script.
func lossy(t *testing.T, n int64) (*redisstore.Store, *proxy) {
	t.Helper()
	p := newProxy(t, servers.StartRedis(t, quick...).Addr)
	store := open(t, dial(t, 3, p.addr), "")
	p.cutEvery.Store(n)
	return store, p
}

// A write whose answer was lost is made once: a visitor counts on, by one, whatever the network loses.
func TestALostAnswerCountsOnce(t *testing.T) {
	t.Parallel()
	store, p := lossy(t, 3)
	v := &visitor{site: site(store)}
	for i := range 200 {
		if n, err := v.count(t.Context()); n != i+1 || err != nil {
			t.Fatalf("request %d counted %d: %v", i+1, n, err)
		}
	}
	if p.cuts.Load() < 60 {
		t.Fatalf("only %d answers were lost", p.cuts.Load())
	}
	t.Logf("%d answers were lost", p.cuts.Load())
}

// With many writers at once every write that was acknowledged counts once, and one that was not counts once or not at all.
func TestLostAnswersAreNeverCountedTwice(t *testing.T) {
	t.Parallel()
	store, p := lossy(t, 5)
	first := &visitor{site: site(store)}
	if _, err := first.count(t.Context()); err != nil {
		t.Fatal(err)
	}
	var made, unknown atomic.Int64
	made.Store(1)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			v := *first
			for range 50 {
				if _, err := v.count(t.Context()); err == nil {
					made.Add(1)
				} else {
					unknown.Add(1)
				}
			}
		})
	}
	all.Wait()
	p.cutEvery.Store(0)
	n, err := first.count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := int64(n - 1); got < made.Load() || got > made.Load()+unknown.Load() {
		t.Fatalf("%d were counted, %d acknowledged, %d not", got, made.Load(), unknown.Load())
	}
	t.Logf("%d counted, %d acknowledged, %d not, %d answers lost", n-1, made.Load(), unknown.Load(), p.cuts.Load())
}

// A write that was perhaps made, and was overtaken by another one, is no conflict: whoever takes it for one makes it twice.
func TestAnOvertakenWriteIsNoConflict(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, quick...)
	p := newProxy(t, server.Addr)
	store, other := open(t, dial(t, 3, p.addr), "same:"), open(t, dial(t, 3, server.Addr), "same:")
	later := time.Now().Add(time.Hour)
	rev, err := store.Create(t.Context(), "id", []byte("one"), later)
	if err != nil {
		t.Fatal(err)
	}
	if rev, err = store.Swap(t.Context(), "id", rev, []byte("one"), later); err != nil { // the server knows the script now
		t.Fatal(err)
	}
	p.overtake(func() {
		rec, err := other.Load(t.Context(), "id")
		if err == nil {
			_, err = other.Swap(t.Context(), "id", rec.Rev, []byte("three"), later)
		}
		if string(rec.Data) != "two" || err != nil {
			t.Errorf("the other writer found %q: %v", rec.Data, err)
		}
	})
	_, err = store.Swap(t.Context(), "id", rev, []byte("two"), later)
	if err == nil || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) {
		t.Fatalf("Swap = %v", err)
	}
}
