package handoff

import (
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The Choice of a program decides about new connections and idle connections, in place of counting. It gets the weight as an
// argument.
func TestChoiceDecidesInPlaceOfCounting(t *testing.T) {
	conns := pairs(t, 6)
	var asked []float64
	e := newExchange(t, func(c net.Conn, weight float64) bool {
		asked = append(asked, weight)
		return slices.Index(conns, c)%3 == 0
	})
	e.dispatcher.SetWeight(0.01)
	for i, decide := range []func(net.Conn) bool{e.dispatch, e.move} {
		var passed []bool
		e.offer(conns[3*i:3*i+3], decide, func(p bool) { passed = append(passed, p) })
		if !slices.Equal(passed, []bool{true, false, false}) {
			t.Errorf("passed %v", passed)
		}
	}
	if !slices.Equal(asked, slices.Repeat([]float64{0.01}, 6)) {
		t.Errorf("asked with the weights %v", asked)
	}
}

// A Choice is not called at weight 0. If it panics, the connection stays in the old process.
func TestChoiceThatPanicsSaysNo(t *testing.T) {
	asked := 0
	e := newExchange(t, func(net.Conn, float64) bool { asked++; panic("fell over") })
	c := pairs(t, 1)[0]
	for want, weight := range []float64{0, 0.5} {
		if e.dispatcher.SetWeight(weight); e.dispatch(c) || e.move(c) || asked != 2*want {
			t.Errorf("weight %v: it is passed, or asked about %d times", weight, asked)
		}
	}
}

// If a Choice does not return, only the connection in its argument waits. The methods of the Dispatcher can still be called. If
// the Choice returns after Stop, the connection is not passed.
func TestChoiceThatHangsHoldsNobodyUp(t *testing.T) {
	for name, offer := range map[string]func(e *exchange, c net.Conn) bool{"new": (*exchange).dispatch, "idle": (*exchange).move} {
		t.Run(name, func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			e := newExchange(t, func(net.Conn, float64) bool { close(asked); <-answer; return true })
			e.dispatcher.SetWeight(0.5)
			_, server := e.conn()
			passed := make(chan bool)
			go func() { passed <- offer(e, server) }() // the goroutine ends when the Choice returns
			<-asked
			done := make(chan struct{})
			go func() { // the goroutine ends at once
				defer close(done)
				e.dispatcher.SetWeight(0.7)
				e.dispatcher.Sweep()
				e.dispatcher.Returned(wire.ConnBody{Slot: 1}, true)
				e.dispatcher.Stop()
			}()
			select {
			case <-done:
			case <-time.After(waitLimit):
				t.Error("the owner waits for the choice")
			}
			close(answer)
			if <-done; <-passed {
				t.Error("a connection is passed after Stop")
			}
		})
	}
}

// addressed is a connection whose client has the address addr.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

// ByAddress decides by the address and not by the port. If an address goes to the candidate at a small weight, it does so at
// every greater weight. The share of the addresses is the weight.
func TestByAddressGrowsWithTheWeight(t *testing.T) {
	weights := []float64{0, 0.01, 0.05, 0.25, 0.5, 0.9, 1}
	const n = 2000
	in := make([]int, len(weights))
	for i := range n {
		ip, was := net.IPv4(192, 0, byte(i>>8), byte(i)), false
		for k, w := range weights {
			is := ByAddress(addressed{addr: &net.TCPAddr{IP: ip, Port: 1}}, w)
			if other := ByAddress(addressed{addr: &net.TCPAddr{IP: ip, Port: 1000 + k}}, w); other != is {
				t.Fatalf("%v changes sides with its port at %v", ip, w)
			}
			if was && !is {
				t.Fatalf("%v leaves the share at %v", ip, w)
			}
			if was = is; is {
				in[k]++
			}
		}
	}
	for k, w := range weights {
		if got := float64(in[k]) / n; math.Abs(got-w) > 0.04 {
			t.Errorf("weight %v: %v of the addresses", w, got)
		}
	}
	if in[0] != 0 || in[len(in)-1] != n {
		t.Errorf("%d at weight 0, %d at weight 1", in[0], in[len(in)-1])
	}
}

// All clients without an address have the same unit. The unit of a client with a path is the path.
func TestUnitOfAClient(t *testing.T) {
	for _, c := range []struct {
		addr net.Addr
		want string
	}{
		{nil, ""},
		{&net.UnixAddr{Name: "/run/client", Net: "unix"}, "/run/client"},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 80}, "::1"},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}, "192.0.2.1"},
	} {
		if got := unitOf(addressed{addr: c.addr}); got != c.want {
			t.Errorf("%v is %q, want %q", c.addr, got, c.want)
		}
	}
}
