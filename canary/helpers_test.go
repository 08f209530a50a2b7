package canary_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/midair-go/midair/canary"
)

var quiet = slog.New(slog.DiscardHandler)

// side is a handler that answers with its name.
type side string

func (s side) ServeHTTP(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, string(s)) }

const (
	v1 = side("stable")
	v2 = side("canary")
)

func byHeader(r *http.Request) string { return r.Header.Get("User") }

func router(opts canary.Options) *canary.Router {
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	return canary.NewRouter(v1, v2, opts)
}

func request(headers ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// ask returns the side that answers.
func ask(h http.Handler, headers ...string) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(headers...))
	return w.Body.String()
}

// cohort is the set of users that h has on the canary side.
func cohort(h http.Handler, users int) map[string]bool {
	set := map[string]bool{}
	for i := range users {
		user := fmt.Sprint("user-", i)
		if ask(h, "User", user) == "canary" {
			set[user] = true
		}
	}
	return set
}

// A visitor is a client that keeps cookies.
type visitor struct {
	t       testing.TB
	cookies map[string]string
	minted  int // how often it was given a cookie
}

func newVisitor(t testing.TB) *visitor { return &visitor{t: t, cookies: map[string]string{}} }

// visit returns the side that answers.
func (v *visitor) visit(h http.Handler) string {
	v.t.Helper()
	r := request()
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		v.cookies[c.Name] = c.Value
		v.minted++
	}
	return w.Body.String()
}

// headed returns opts with a choice by a header.
func headed(opts canary.Options, name string) canary.Options {
	opts.Choose, opts.Vary = canary.ByHeader(name)
	return opts
}
