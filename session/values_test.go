package session_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/midair-go/midair/session"
)

// Keys are those of all values, sorted, also of values that the type of the program does not fit. Clear leaves none.
func TestKeysAndClear(t *testing.T) {
	s := dirSite(t)
	s.handle("/keys", func(r *http.Request) (keys string, err error) {
		err = session.Update(r.Context(), func(v *session.Values) error {
			keys = strings.Join(v.Keys(), " ")
			return nil
		})
		return keys, err
	})
	s.handle("/clear", func(r *http.Request) (string, error) {
		return "", session.Update(r.Context(), func(v *session.Values) error {
			v.Clear()
			if keys := v.Keys(); len(keys) > 0 {
				t.Errorf("keys %q", keys)
			}
			return v.Put("last", 1)
		})
	})
	v := newVisitor(t, s)
	v.want("/keys", "")
	for _, key := range []string{"b", "c", "a"} {
		v.get("/put?v=1&k=" + key)
	}
	v.want("/keys", "a b c")
	v.get("/clear")
	v.want("/keys", "last")
}

// Of many requests that pop a value at the same time, in two processes, exactly one gets it.
func TestOneOfManyPopsGetsTheValue(t *testing.T) {
	a, b := twoSites(t)
	for _, s := range []*site{a, b} {
		s.handle("/pop", func(r *http.Request) (string, error) {
			text, ok, err := session.Pop[string](r.Context(), "flash")
			if !ok && text != "" || ok && text != "saved" {
				t.Errorf("Pop = %q, %v, %v", text, ok, err)
			}
			return text, err
		})
	}
	v := newVisitor(t, a)
	for range 20 {
		v.get("/put?k=flash&v=saved")
		var got atomic.Int64
		var all sync.WaitGroup
		for i := range 8 {
			other := v.with([]*site{a, b}[i%2])
			all.Go(func() {
				if other.get("/pop") == "saved" {
					got.Add(1)
				}
			})
		}
		all.Wait()
		if n := got.Load(); n != 1 {
			t.Fatalf("%d pops got the value", n)
		}
	}
}

// A value that does not fit stays where it is, and a Pop of nothing writes nothing and needs no cookie.
func TestAPopThatCannotBeChangesNothing(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	s.handle("/number", func(r *http.Request) (string, error) {
		n, ok, err := session.Pop[int](r.Context(), "flash")
		if n != 0 || ok || err == nil || !strings.Contains(err.Error(), "flash") {
			t.Errorf("Pop = %d, %v, %v", n, ok, err)
		}
		return "", nil
	})
	v := newVisitor(t, s)
	v.get("/put?k=flash&v=saved")
	v.get("/number")
	v.want("/get?k=flash", "saved true")

	var writes []string
	store.on(func(op, _ string) error {
		if op != "load" {
			writes = append(writes, op)
		}
		return nil
	})
	s.mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if _, ok, err := session.Pop[string](r.Context(), "none"); ok || err != nil {
			t.Errorf("Pop = %v, %v", ok, err)
		}
	})
	v.get("/late")
	newVisitor(t, s).get("/late")
	if len(writes) > 0 {
		t.Errorf("the store was asked for %q", writes)
	}
	if _, _, err := session.Pop[int](httptest.NewRequest("GET", "/", nil).Context(), "k"); err != session.ErrNoSession {
		t.Errorf("outside of the Middleware: %v", err)
	}
}
