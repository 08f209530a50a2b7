package handoff

import (
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A choice of the program decides in place of counting, about new connections and idle ones, and learns the weight.
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

// A choice is not asked at weight 0, and its panic is a no.
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

// A choice that does not return holds up the connection that it is about, and nothing else: the owner of the attempt can take each of
// its steps meanwhile, and after Stop the choice is too late.
func TestChoiceThatHangsHoldsNobodyUp(t *testing.T) {
	for name, offer := range map[string]func(e *exchange, c net.Conn) bool{"new": (*exchange).dispatch, "idle": (*exchange).move} {
		t.Run(name, func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			e := newExchange(t, func(net.Conn, float64) bool { close(asked); <-answer; return true })
			e.dispatcher.SetWeight(0.5)
			_, server := e.conn()
			passed := make(chan bool)
			go func() { passed <- offer(e, server) }() // ends with the answer
			<-asked
			done := make(chan struct{})
			go func() { // ends at once
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

// addressed is a connection of a client with that address.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

// ByAddress keeps an address on one side whatever its port is, and who is in a small share is in every greater one; the
// shares are those of the addresses.
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

// A client without an address is one client, and one with a path is what the path says.
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
