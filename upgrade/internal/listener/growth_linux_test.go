package listener

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// addrOf returns an address for the socket number n: all have the same port.
func addrOf(n int) *net.TCPAddr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}), 80))
}

// fakeSocket returns a socket without a descriptor.
func fakeSocket(addr string, n int) *Socket {
	return &Socket{kind: "listener", Network: "tcp", Addr: addr, gate: newGate(nil), local: addrOf(n), fd: -1}
}

// To open a socket, to find it and to close it costs the same, however many sockets are open: whether all were opened with the
// same address or each with its own.
func TestOpenSocketsAreFoundWithoutASearch(t *testing.T) {
	for name, addr := range map[string]func(n int) string{
		"one address":    func(int) string { return "127.0.0.1:0" },
		"many addresses": func(n int) string { return "127.0.0.1:" + strconv.Itoa(n) },
	} {
		testutil.MustGrowLinearly(t, 250, func(n int) func() {
			return func() {
				var s sockets
				all := make([]*Socket, n)
				for i := range all {
					all[i] = fakeSocket(s.name("tcp", addr(i), false), i)
					s.add(all[i])
				}
				for i, r := range all {
					at, _ := r.spot()
					if s.named(r.Network, r.Addr) != r || len(s.near(at)) != 1 || s.Len() != n-i {
						t.Fatalf("%s: %s is not found", name, r.Addr)
					}
					if _, ok := s.take(r); !ok {
						t.Fatalf("%s: %s is not removed", name, r.Addr)
					}
				}
			}
		})
	}
}

// To close a listener and to open another one with the same address costs the same, however many are open. The new listener gets
// the name of the closed one.
func TestFreedNameIsFoundWithoutASearch(t *testing.T) {
	testutil.MustGrowLinearly(t, 250, func(n int) func() {
		var s sockets
		all := make([]*Socket, n)
		for i := range all {
			all[i] = fakeSocket(s.name("tcp", ":0", false), i)
			s.add(all[i])
		}
		return func() {
			for _, r := range all {
				r.gate.close()
				s.take(r)
				name := s.name("tcp", ":0", false)
				if name != r.Addr {
					t.Fatalf("the new name is %s, want %s", name, r.Addr)
				}
				s.add(fakeSocket(name, 0))
			}
		}
	})
}

// To take one of many received sockets costs the same, however many have come: by its name, and by another spelling.
func TestReceivedSocketsAreTakenWithoutASearch(t *testing.T) {
	for _, respelled := range []bool{false, true} {
		testutil.MustGrowLinearly(t, 250, func(n int) func() {
			r, names := NewReceived(), make([]wire.SocketName, n)
			for i := range names {
				names[i] = listenerName("tcp", addrOf(i).String())
			}
			r.Add(names, make([]*os.File, n))
			for i, f := range r.files {
				f.file = os.Stdin
				at := localSpot(addrOf(i))
				f.once.Do(func() { f.at = &at })
			}
			return func() {
				for _, name := range names {
					want := name
					if respelled {
						want.Network = "tcp4"
					}
					f := r.find(want)
					if f.file = nil; f.name != name {
						t.Fatalf("%v is found as %v", want, f.name)
					}
					if _, err := open(r, f.name, func(*os.File) (int, error) { return 0, nil }); err != nil {
						t.Fatal(err)
					}
				}
				if r.Len() != 0 {
					t.Fatalf("%d sockets are left", r.Len())
				}
			}
		})
	}
}

// To find the listener of a connection costs the same, however many listeners there are.
func TestListenerOfAConnectionIsFoundWithoutASearch(t *testing.T) {
	testutil.MustGrowLinearly(t, 250, func(n int) func() {
		var o origins
		return func() {
			for i := range n {
				r := fakeSocket(strconv.Itoa(i), i)
				o.note(r)
				o.alias([]wire.SocketName{listenerName("tcp", "before "+r.Addr)}, r)
			}
			for i := range n {
				k, moved := o.at(addrOf(i)), o.byName("tcp", "before "+strconv.Itoa(i))
				if k == nil || k != moved || k.Addr != strconv.Itoa(i) {
					t.Fatalf("connection %d: %+v, %+v", i, k, moved)
				}
			}
		}
	})
}
