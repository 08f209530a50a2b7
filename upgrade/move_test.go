//go:build unix

package upgrade

import (
	"net"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/listener"
)

// falling is a program's wrapper of a connection, whose method NetConn panics.
type falling struct{ net.Conn }

func (falling) NetConn() net.Conn { panic("the wrapper fell over") }

// A panic in Move, in the wrapper of the program or in the mover, reaches the caller of Move. A commit waits for running calls
// of Move, but not for a call that has panicked.
func TestPanicInMoveWithHoldsNothing(t *testing.T) {
	u, c := listening(t, "")
	for name, move := range map[string]func(){
		"the wrapper": func() { u.Move(falling{c}) },
		"the move":    func() { u.Move(c) },
	} {
		u.traffic.setMover(moverFunc(func(listener.Origin, net.Conn, []byte) bool { panic("the move fell over") }))
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: nothing has panicked", name)
				}
			}()
			move()
		}()
		if !u.traffic.moving.TryLock() { // what awaitMoves waits for
			t.Fatalf("%s is still moving", name)
		}
		u.traffic.moving.Unlock()
	}
}
