package canary_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/canary"
)

// Each request is counted once, on its side.
func TestStatusCountsRequests(t *testing.T) {
	rt := router(headed(canary.Options{Name: "cart", Weight: canary.Fixed(0.25), Key: byHeader}, "canary"))
	n := uint64(len(cohort(rt, 1000)))
	ask(rt, "Canary", "true")
	ask(rt, "Canary", "false")
	want := canary.Status{
		Name: "cart", Weight: 0.25, DecidedBy: "weight",
		Stable: canary.SideStatus{Requests: 1001 - n, Forced: 1},
		Canary: canary.SideStatus{Requests: n + 1, Forced: 1},
	}
	if got := rt.Status(); got != want {
		t.Errorf("status %+v, want %+v", got, want)
	}
}

// A request is in flight until its handler returns.
func TestStatusCountsWhatIsInFlight(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave })
	rt := canary.NewRouter(v1, slow, canary.Options{Weight: canary.Fixed(1)})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { ask(rt) })
		<-entered
	}
	if s := rt.Status().Canary; s.InFlight != 3 || s.Requests != 3 {
		t.Errorf("status %+v while three are served", s)
	}
	close(leave)
	wg.Wait()
	if s := rt.Status(); s.Canary.InFlight != 0 || s.Canary.Requests != 3 || s.Stable.Requests != 0 {
		t.Errorf("status %+v after them", s)
	}
}

// Many requests at once are all counted.
func TestStatusUnderLoad(t *testing.T) {
	rt := router(canary.Options{Weight: half})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				ask(rt)
				if s := rt.Status(); s.Stable.InFlight > s.Stable.Requests || s.Canary.InFlight > s.Canary.Requests {
					t.Errorf("more in flight than begun: %+v", s)
				}
			}
		})
	}
	wg.Wait()
	s := rt.Status()
	if s.Stable.Requests+s.Canary.Requests != 4000 || s.Stable.InFlight+s.Canary.InFlight != 0 {
		t.Errorf("status %+v", s)
	}
}

// A panic is counted and goes on with its value and with the stack of where it began. An abort is no panic.
func TestPanicsAreCountedAndGoOn(t *testing.T) {
	for _, v := range []struct {
		value  any
		panics uint64
	}{{"broken", 1}, {http.ErrAbortHandler, 0}, {[]int{1}, 1}} {
		rt := canary.NewRouter(v1, breaks{v.value}, canary.Options{Weight: canary.Fixed(1)})
		value, stack := caught(rt)
		if value == nil || !strings.Contains(stack, "breaks.ServeHTTP") {
			t.Errorf("panic(%v) became %v, with the stack\n%s", v.value, value, stack)
		}
		want := canary.SideStatus{Requests: 1, Panics: v.panics}
		if got := rt.Status().Canary; got != want {
			t.Errorf("panic(%v): status %+v, want %+v", v.value, got, want)
		}
	}
}

// The status reads as JSON with plain names.
func TestStatusAsJSON(t *testing.T) {
	data, err := json.Marshal(router(canary.Options{Name: "cart"}).Status())
	if err != nil {
		t.Fatal(err)
	}
	const side = `{"requests":0,"in_flight":0,"forced":0,"panics":0}`
	if want := `{"name":"cart","weight":0,"decided_by":"weight","stable":` + side + `,"canary":` + side + `}`; string(data) != want {
		t.Errorf("status %s, want %s", data, want)
	}
}

type breaks struct{ value any }

func (b breaks) ServeHTTP(http.ResponseWriter, *http.Request) { panic(b.value) }

func caught(h http.Handler) (value any, stack string) {
	defer func() { value, stack = recover(), string(debug.Stack()) }()
	h.ServeHTTP(httptest.NewRecorder(), request())
	return nil, ""
}
