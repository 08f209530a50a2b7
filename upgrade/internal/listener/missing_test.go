//go:build unix

package listener

import (
	"testing"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Is of a missing socket is true for the address that Listen got, also if several sockets have this address. It is also true
// for the address where the socket listens. A "#" in a path belongs to the path.
func TestMissingSocketIsMeantByItsAddress(t *testing.T) {
	for _, c := range []struct {
		addr, local, given string
		want               bool
	}{
		{":80", "", ":80", true},
		{":80", "", ":8", false},
		{":80", "", "", false},
		{"127.0.0.1:0", "127.0.0.1:7", "127.0.0.1:0", true},
		{"127.0.0.1:0#2", "127.0.0.1:7", "127.0.0.1:0", true},
		{"127.0.0.1:0#pinned#2", "127.0.0.1:7", "127.0.0.1:0", true},
		{"127.0.0.1:0#2", "127.0.0.1:7", "127.0.0.1:0#2", true},
		{"127.0.0.1:0#2", "127.0.0.1:7", "127.0.0.1:7", true},
		{"127.0.0.1:0#2", "127.0.0.1:7", "127.0.0.1:8", false},
		{"/run/a#b", "", "/run/a", false},
		{"/run/a#b", "", "/run/a#b", true},
	} {
		m := Missing{wire.SocketName{Kind: "listener", Network: "tcp", Addr: c.addr}, c.local}
		if got := m.Is(c.given); got != c.want {
			t.Errorf("%s is %q: %v", m, c.given, got)
		}
	}
}

// Missing returns the sockets that were received and are not open, except the sockets that the older generation had opened
// late.
func TestMissingIsWhatHasToBeOpened(t *testing.T) {
	old, _ := newSet(t, nil)
	listen(t, old, "unix", socketPath(t), false)
	listen(t, old, "tcp", "127.0.0.1:0", false)
	old.Begin()
	listen(t, old, "tcp", "127.0.0.1:0", false)
	listenPacket(t, old, "udp", "127.0.0.1:0")
	next, _ := newSet(t, old)
	listen(t, next, "tcp", "127.0.0.1:0", false)
	missing := next.Missing(old.Early())
	if len(missing) != 1 || missing[0].Network != "unix" {
		t.Errorf("missing: %v", missing)
	}
	tcp, udp := listenerName("tcp", "127.0.0.1:0#2"), wire.SocketName{Kind: "packet", Network: "udp", Addr: "127.0.0.1:0"}
	if late := old.Late(); len(late) != 2 || !late[tcp] || !late[udp] {
		t.Errorf("late: %v", late)
	}
	if got := next.Fresh(); len(got) != 0 {
		t.Errorf("new sockets: %v", got)
	}
	listen(t, next, "tcp", ":0", false)
	if got := next.Fresh(); len(got) != 1 || got[0].Addr != ":0" {
		t.Errorf("new sockets: %v", got)
	}
}
