package drain

import (
	"errors"
	"net"
	"time"
)

// past interrupts a Read.
var past = time.Unix(1, 0)

// A readDeadline is the read deadline of a connection. A drain interrupts a Read by a deadline in the past; meanwhile the
// deadlines that the owner of the connection sets are only kept. The lock of the connection guards the readDeadline.
type readDeadline struct {
	asked       time.Time // the deadline that the owner wants
	interrupted bool      // past is set
}

// set sets the deadline that the owner wants, or keeps the deadline while a Read is to be interrupted.
func (d *readDeadline) set(nc net.Conn, t time.Time) error {
	d.asked = t
	if d.interrupted {
		return nil
	}
	return nc.SetReadDeadline(t)
}

// interrupt ends the Read that waits, or the next one.
func (d *readDeadline) interrupt(nc net.Conn) {
	if !d.interrupted {
		d.interrupted = true
		nc.SetReadDeadline(past)
	}
}

// restore puts the deadline of the owner back.
func (d *readDeadline) restore(nc net.Conn) {
	if d.interrupted {
		d.interrupted = false
		nc.SetReadDeadline(d.asked)
	}
}

// timeout reports whether a deadline has ended a Read or an Accept.
func timeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
