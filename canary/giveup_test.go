package canary_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/midair-go/midair/canary"
)

// unwrapped hides what a writer can do, and leads to it.
type unwrapped struct{ http.ResponseWriter }

func (u unwrapped) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// A canary that gives up is rescued if the request may run twice, or if nobody has run it and Unserved says so. In all other cases
// the canary learns that it has to answer.
func TestGivingUpIsRescuedIfNobodyHasServed(t *testing.T) {
	stable := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "stable %s", body)
	}
	for _, row := range []struct {
		name, method string
		how          string
		unserved     bool // what the canary says
		allowed      bool // Rescue.Unserved
		want         string
	}{
		{"safe", "GET", "", false, false, "200 stable "},
		{"safe and unserved", "GET", "", true, true, "200 stable "},
		{"unsafe and served", "POST", "", false, true, "502 canary"},
		{"unsafe and unserved", "POST", "", true, true, "200 stable body"},
		{"unsafe and unserved, half of the body was read", "POST", "reads", true, true, "200 stable body"},
		{"unsafe and unserved, not allowed", "POST", "", true, false, "502 canary"},
		{"after a byte", "GET", "writes", true, true, "200 half canary"},
		{"by a middleware", "POST", "wraps", true, true, "200 stable body"},
		{"twice", "POST", "twice", true, true, "200 stable body"},
		{"an answer of the canary that is unsafe", "POST", "answers", true, true, "503 canary"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var seen []canary.Outcome
			gave := false
			giver := func(w http.ResponseWriter, r *http.Request) {
				switch row.how {
				case "reads":
					io.ReadFull(r.Body, make([]byte, 2))
				case "writes":
					io.WriteString(w, "half ")
				case "wraps":
					w = unwrapped{w}
				case "twice":
					canary.GiveUp(w, row.unserved)
				case "answers":
					w.WriteHeader(http.StatusServiceUnavailable)
					io.WriteString(w, "canary")
					return
				}
				if canary.GiveUp(w, row.unserved) {
					gave = true
					return
				}
				if row.how == "twice" {
					gave = true
				}
				w.WriteHeader(http.StatusBadGateway)
				io.WriteString(w, "canary")
			}
			rt := canary.NewRouter(http.HandlerFunc(stable), http.HandlerFunc(giver), canary.Options{
				Weight: canary.Fixed(1), Logger: quiet, Observe: func(o canary.Outcome) { seen = append(seen, o) },
				Rescue: &canary.Rescue{Unserved: row.allowed, Status: canary.ServerError},
			})
			w := httptest.NewRecorder()
			rt.ServeHTTP(w, httptest.NewRequest(row.method, "/", strings.NewReader("body")))
			if got := fmt.Sprint(w.Code, " ", w.Body); got != row.want && !(row.method == "GET" && got == "200 stable body") {
				t.Errorf("the answer is %q, want %q", got, row.want)
			}
			stableAnswers := strings.HasPrefix(row.want, "200 stable")
			if gave != stableAnswers {
				t.Errorf("GiveUp returned %v", gave)
			}
			if first := seen[0]; stableAnswers && (len(seen) != 2 || !first.Has(canary.Rescued) || first.Status != http.StatusBadGateway || !first.Failed()) {
				t.Errorf("the outcomes are %+v", seen)
			}
		})
	}
}

// Where no router can let somebody else answer, GiveUp says so.
func TestGivingUpWithoutARouterChangesNothing(t *testing.T) {
	w := httptest.NewRecorder()
	if canary.GiveUp(w, true) || canary.GiveUp(unwrapped{w}, true) || canary.GiveUp(nil, true) {
		t.Error("GiveUp returned true without a router")
	}
	for _, side := range []float64{0, 1} { // stable, and a canary without Rescue
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if canary.GiveUp(w, true) {
				t.Errorf("GiveUp returned true at a weight of %v", side)
			}
		})
		rt := canary.NewRouter(h, h, canary.Options{Weight: canary.Fixed(side), Logger: quiet, Bad: canary.Outcome.Failed})
		rt.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
}

// Unserved alone does not make a panic or a status of a request harmless that may not run twice.
func TestUnservedRescuesNoPanicOfAnUnsafeRequest(t *testing.T) {
	ran := 0
	stable := func(http.ResponseWriter, *http.Request) { ran++ }
	rt := rescued(stable, func(http.ResponseWriter, *http.Request) { panic("the canary is bad") }, canary.Rescue{Unserved: true})
	func() {
		defer func() { _ = recover() }()
		rt.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil))
		t.Error("there was no panic")
	}()
	if ran != 0 {
		t.Errorf("the stable handler has run %d times", ran)
	}
}
