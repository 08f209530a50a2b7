package canary_test

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
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

// A dial is a weight that a test changes.
type dial struct{ bits atomic.Uint64 }

func (d *dial) set(w float64)   { d.bits.Store(math.Float64bits(w)) }
func (d *dial) weight() float64 { return math.Float64frombits(d.bits.Load()) }

// rampSteps are the weights of a ramp, with a rollback at the end.
var rampSteps = []float64{0, 0.01, 0.05, 0.25, 0.5, 1, 0}

// ramp changes the weight step by step, and returns the cohort that h has at each step.
func ramp(h http.Handler, weight *dial, users int) (cohorts []map[string]bool) {
	for _, w := range rampSteps {
		weight.set(w)
		cohorts = append(cohorts, cohort(h, users))
	}
	return cohorts
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

// ramp changes the weight step by step, and returns the side that answers at each step.
func (v *visitor) ramp(h http.Handler, weight *dial) (sides []string) {
	v.t.Helper()
	for _, w := range rampSteps {
		weight.set(w)
		sides = append(sides, v.visit(h))
	}
	return sides
}

// headed returns opts with a choice by a header.
func headed(opts canary.Options, name string) canary.Options {
	opts.Choose, opts.Vary = canary.ByHeader(name)
	return opts
}
