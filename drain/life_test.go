package drain_test

import (
	"net"
	"sync/atomic"
	"testing"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/internal/life"
)

// countedConn counts Close. The client has closed, so a linger ends at once.
type countedConn struct {
	net.Conn
	closes atomic.Int32
}

func (c *countedConn) Close() error {
	c.closes.Add(1)
	return c.Conn.Close()
}

func (c *countedConn) Closes() int { return int(c.closes.Load()) }

// For each event in each state, a connection does what the table of package life says. An impossible event does nothing.
func TestConnectionsDoWhatTheTableSays(t *testing.T) {
	for s := life.Fresh; s <= life.Ended; s++ {
		for e := life.Bytes; e <= life.Release; e++ {
			near, far := net.Pipe()
			near.Close()
			step := life.Next(s, e)
			want := drain.Cell{After: step.Next, Registered: true, Owned: true}
			switch step.Do {
			case life.Restore:
				want.Restored = true
			case life.Reset:
				want.Restored, want.MayMove = true, true
			case life.Extend:
				want.Extended = true
			case life.NoteHijack:
				want.Owned = false
			case life.Drop:
				want.Closes = 1
			case life.DropUntrack:
				want.Closes, want.Registered, want.Owned = 1, false, false
			case life.Untrack:
				want.Registered, want.Owned = false, false
			case life.Discard:
				want.Closes = 1
				want.After = life.Next(step.Next, life.Lingered).Next
				if want.After == life.Ended {
					want.Registered, want.Owned = false, false
				}
			}
			if got := drain.Happen(&countedConn{Conn: far}, s, e); got != want {
				t.Errorf("%v in %v, %v:\ngot  %+v\nwant %+v", e, s, step.Do, got, want)
			}
			far.Close()
		}
	}
}
