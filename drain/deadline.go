package drain

import (
	"errors"
	"net"
	"time"
)

// past is a deadline in the past. It interrupts a Read.
var past = time.Unix(1, 0)

// A readDeadline is the read deadline of a connection. A Read is interrupted by the deadline past. Until restore ends the
// interruption, deadlines that the owner of the connection sets are only stored. The lock of the connection guards the
// readDeadline.
type readDeadline struct {
	asked       time.Time // the deadline that the owner wants
	interrupted bool      // the connection has the deadline past in place of the deadline in asked
}

// set sets the deadline that the owner wants. During an interruption it only stores the deadline.
func (d *readDeadline) set(nc net.Conn, t time.Time) error {
	d.asked = t
	if d.interrupted {
		return nil
	}
	return nc.SetReadDeadline(t)
}

// interrupt ends the Read that waits, or the next Read.
func (d *readDeadline) interrupt(nc net.Conn) {
	if !d.interrupted {
		d.interrupted = true
		nc.SetReadDeadline(past)
	}
}

// restore ends an interruption: it sets the deadline that the owner wants.
func (d *readDeadline) restore(nc net.Conn) {
	if d.interrupted {
		d.interrupted = false
		nc.SetReadDeadline(d.asked)
	}
}

// timeout reports whether err means that a deadline has ended a Read or an Accept.
func timeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
