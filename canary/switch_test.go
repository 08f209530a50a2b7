package canary_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/midair-go/midair/canary"
)

var switched = flag.Int("midair.switched", 100_000, "how many requests TestSwitchesLoseNoRequest sends")

func newSwitch(opts canary.SwitchOptions) *canary.Switch {
	opts.Logger = quiet
	return canary.NewSwitch(opts)
}

// halves is a handler that writes its name twice, with time for a switch in between.
type halves struct {
	name  string
	freed atomic.Bool // the program has ended what the handler uses
	late  atomic.Int64
}

func (h *halves) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if h.freed.Load() {
		h.late.Add(1)
	}
	io.WriteString(w, h.name)
	runtime.Gosched()
	io.WriteString(w, h.name)
	if h.freed.Load() {
		h.late.Add(1)
	}
}

// While the switch is thrown a thousand times, each request is answered, by one handler alone, and by that of the side if the side
// did not change meanwhile. Once Idle has told that a side has no request, none comes there before the next switch.
func TestSwitchesLoseNoRequest(t *testing.T) {
	const switches, clients, batch = 1000, 4, 16
	sw := newSwitch(canary.SwitchOptions{})
	blue, green := &halves{name: "blue"}, &halves{name: "green"}
	weight := func() float64 {
		w := sw.Weight()
		runtime.Gosched() // time for a switch between the decision and the handler
		return w
	}
	rt := canary.NewRouter(blue, green, canary.Options{Switch: sw, Weight: weight, Logger: quiet})
	srv := httptest.NewServer(rt)
	defer srv.Close()

	var throws, sent atomic.Int64 // throws is odd while the switch is thrown
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			nc, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			answers, ask := bufio.NewReader(nc), strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", batch)
			for sent.Add(batch) <= int64(*switched) {
				before := throws.Load()
				if _, err := io.WriteString(nc, ask); err != nil {
					t.Error(err)
					return
				}
				for range batch {
					side, err := readHalves(answers)
					if err != nil {
						t.Error(err)
						return
					}
					want := []string{"blue", "blue", "green", "green"}[before%4]
					if throws.Load() == before && before%2 == 0 && side != want {
						t.Errorf("answered by %s although the switch is %s", side, want)
					}
				}
			}
		})
	}
	for n := range switches {
		from := []*halves{blue, green}[n%2]
		throws.Add(1)
		if n%2 == 0 {
			green.freed.Store(false)
			must(t, sw.Green())
		} else {
			blue.freed.Store(false)
			sw.Blue()
		}
		throws.Add(1)
		<-sw.Idle([]canary.Side{canary.Stable, canary.Canary}[n%2])
		from.freed.Store(true)
		for upTo := int64(n+1) * int64(*switched) / switches; sent.Load() < upTo; {
			runtime.Gosched()
		}
	}
	running.Wait()
	if n := blue.late.Load() + green.late.Load(); n > 0 {
		t.Errorf("%d requests came to a handler after it was idle", n)
	}
	s := rt.Status()
	if s.Stable.InFlight+s.Canary.InFlight > 0 || s.Stable.Requests == 0 || s.Canary.Requests == 0 {
		t.Errorf("%+v", s)
	}
	t.Logf("%d requests over %d switches: %d blue, %d green", s.Stable.Requests+s.Canary.Requests, switches, s.Stable.Requests, s.Canary.Requests)
}

// readHalves returns the name that an answer has twice.
func readHalves(r *bufio.Reader) (string, error) {
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	first := string(body[:len(body)/2])
	if string(body) != first+first || res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s, %q", res.Status, body)
	}
	return first, nil
}

// Idle waits for the requests of its side in all routers with the switch, and for no others; whoever has chosen the side counts.
func TestIdleWaitsForTheLastRequest(t *testing.T) {
	sw := newSwitch(canary.SwitchOptions{})
	begun, release := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-release
	})
	one := router(canary.Options{Switch: sw})
	other := canary.NewRouter(slow, slow, headed(canary.Options{Switch: sw, Logger: quiet}, "canary"))
	var running sync.WaitGroup
	defer running.Wait()
	hold := func(headers ...string) {
		running.Go(func() { ask(other, headers...) })
		<-begun
	}
	hold()
	must(t, sw.Green())
	idle := sw.Idle(canary.Stable)
	hold("Canary", "false")
	hold()
	if ask(one) != "canary" {
		t.Error("not green")
	}
	for range 2 {
		mustBeOpen(t, idle)
		release <- struct{}{} // any of the three
	}
	mustBeOpen(t, sw.Idle(canary.Canary), sw.Idle(canary.Stable))
	release <- struct{}{}
	<-idle
	<-sw.Idle(canary.Stable)
	<-sw.Idle(canary.Canary)
	<-sw.Idle(7)
	if s := other.Status(); s.Stable.Requests != 2 || s.Canary.Requests != 1 || s.Stable.Forced != 1 {
		t.Errorf("%+v", s)
	}
}

// mustBeOpen fails the test if all of the channels are closed.
func mustBeOpen(t *testing.T, channels ...<-chan struct{}) {
	t.Helper()
	for _, c := range channels {
		select {
		case <-c:
		default:
			return
		}
	}
	t.Error("idle, with a request under way")
}

// A request that panics, and one of a switch without a router, do not keep a side busy.
func TestIdleAfterAPanic(t *testing.T) {
	sw := newSwitch(canary.SwitchOptions{})
	<-sw.Idle(canary.Stable)
	bad := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	rt := canary.NewRouter(bad, v2, canary.Options{Switch: sw, Logger: quiet})
	func() {
		defer func() { recover() }()
		ask(rt)
	}()
	<-sw.Idle(canary.Stable)
}

// The switch cannot be thrown before the warm-up has succeeded. An error and a panic of the warm-up leave it blue.
func TestGreenNeedsTheWarmUp(t *testing.T) {
	var calls int
	answers := []func() error{
		func() error { return errors.New("no connection") }, func() error { panic("nil map") }, func() error { return nil },
	}
	sw := newSwitch(canary.SwitchOptions{WarmUp: func(context.Context) error { calls++; return answers[calls-1]() }})
	rt := router(canary.Options{Switch: sw})
	for _, want := range []string{"no connection", "it has panicked: nil map", ""} {
		if err := sw.Green(); !errors.Is(err, canary.ErrCold) || ask(rt) != "stable" || sw.Side() != canary.Stable {
			t.Fatalf("Green before the warm-up: %v", err)
		}
		err := sw.WarmUp(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Fatalf("WarmUp: %v, want %q", err, want)
		}
	}
	must(t, sw.WarmUp(t.Context()))
	must(t, sw.Green())
	if calls != 3 || ask(rt) != "canary" || sw.Side() != canary.Canary || sw.Weight() != 1 {
		t.Errorf("%d calls, weight %v", calls, sw.Weight())
	}
	sw.Blue()
	must(t, sw.Green())
}

// The side passes to the next process, also a side that is not warm there. What cannot be read changes nothing.
func TestSwitchOutlivesItsProcess(t *testing.T) {
	old := newSwitch(canary.SwitchOptions{})
	must(t, old.Green())
	state, err := old.MarshalBinary()
	must(t, err)
	next := newSwitch(canary.SwitchOptions{WarmUp: func(context.Context) error { return nil }})
	rt := router(canary.Options{Switch: next})
	for _, bad := range [][]byte{nil, state[:len(state)-1], []byte("rubbish")} {
		if err := next.UnmarshalBinary(bad); err == nil || ask(rt) != "stable" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	must(t, next.UnmarshalBinary(state))
	if ask(rt) != "canary" {
		t.Error("the next process is blue")
	}
	old.Blue()
	state, err = old.MarshalBinary()
	must(t, err)
	must(t, next.UnmarshalBinary(state))
	if ask(rt) != "stable" {
		t.Error("the next process is green")
	}
}

// A kill and a router without a green handler are stronger than the switch.
func TestKillIsStrongerThanTheSwitch(t *testing.T) {
	sw := newSwitch(canary.SwitchOptions{})
	must(t, sw.Green())
	kill := killSwitch(canary.KillSwitchOptions{})
	rt, none := router(canary.Options{Switch: sw, Kill: kill}), canary.NewRouter(v1, nil, canary.Options{Switch: sw, Logger: quiet})
	if ask(rt) != "canary" || ask(none) != "stable" {
		t.Error("the switch is not obeyed")
	}
	must(t, kill.Kill("bad"))
	if s := rt.Status(); ask(rt) != "stable" || s.DecidedBy != "killed" || s.Weight != 0 {
		t.Errorf("%+v", s)
	}
}
