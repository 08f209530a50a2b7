package versions

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/midair-go/midair/session"
)

// A visitor has one cookie, whichever version answers.
type visitor struct {
	t      *testing.T
	cookie string
}

// A program is one version, in a process of its own.
type program struct {
	*session.Manager
	v *visitor
}

// do runs fn in a request of the visitor.
func (p program) do(fn func(ctx context.Context) error) (err error) {
	r := httptest.NewRequestWithContext(p.v.t.Context(), "GET", "/", nil)
	r.Header.Set("Cookie", p.v.cookie)
	w := httptest.NewRecorder()
	p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { err = fn(r.Context()) })).ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		p.v.cookie = c.Name + "=" + c.Value
	}
	return err
}

func (p program) update(fn func(v *session.Values) error) error {
	return p.do(func(ctx context.Context) error { return session.Update(ctx, fn) })
}

// must is update without an error.
func (p program) must(what string, fn func(v *session.Values) error) {
	p.v.t.Helper()
	if err := p.update(fn); err != nil {
		p.v.t.Errorf("%s: %v", what, err)
	}
}

// A change is one of a type between two versions of a program.
type change struct {
	name   string
	oneWay bool // the old version reads what the new one writes
	run    func(t *testing.T, c change, old, new program)
}

// fits is a change where each version reads what the other one writes. fill sets what only the new version knows.
func fits[O, N any](name string, value O, fill func(*N)) change {
	return change{name: name, run: func(t *testing.T, _ change, old, new program) {
		var zero, filled N
		old.must("the old version writes", put("k", value))
		new.must("the new version reads and writes", func(v *session.Values) error {
			filled = zero
			_, err := v.Get("k", &filled)
			fill(&filled)
			return errors.Join(err, v.Put("k", filled))
		})
		for range 2 {
			same(t, old, "the old version reads", value)
			old.must("the old version rewrites", rewrite[O])
			same(t, new, "the new version reads", filled)
			new.must("the new version rewrites", rewrite[N])
		}
		if err := old.do(session.Renew); err != nil {
			t.Error(err)
		}
		same(t, old, "the old version reads after a renewal", value)
		same(t, new, "the new version reads after a renewal", filled)
	}}
}

// misfits is a change after which neither version reads the value of the other one. It gets an error for this key alone, and the
// value stays as it is.
func misfits[O, N any](name string, value O, other N) change {
	return change{name: name, run: func(t *testing.T, c change, old, new program) {
		old.must("the old version writes", put("k", value))
		unread[N](t, new)
		same(t, old, "the old version reads", value)
		new.must("the new version replaces", func(v *session.Values) error {
			v.Delete("k")
			return v.Put("k", other)
		})
		if !c.oneWay {
			unread[O](t, old)
		}
		same(t, new, "the new version reads", other)
	}}
}

func put(key string, value any) func(v *session.Values) error {
	return func(v *session.Values) error { return v.Put(key, value) }
}

// rewrite reads a value and writes it as it is.
func rewrite[T any](v *session.Values) error {
	var value T
	_, err := v.Get("k", &value)
	return errors.Join(err, v.Put("k", value))
}

func same[T any](t *testing.T, p program, what string, want T) {
	t.Helper()
	p.must(what, func(v *session.Values) error {
		var got T
		ok, err := v.Get("k", &got)
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s %+v, want %+v", what, got, want)
		}
		return err
	})
}

// unread checks that a version gets an error for the key, and can write another one in the same update.
func unread[T any](t *testing.T, p program) {
	t.Helper()
	p.must("an update beside it", func(v *session.Values) error {
		var got T
		if _, err := v.Get("k", &got); err == nil {
			t.Errorf("%T reads %+v", got, got)
		}
		return v.Put("beside", true)
	})
}
