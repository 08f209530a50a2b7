package listener

import (
	"net"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

const (
	// emptyFor is how long connections are taken from the queue of a listener that ends. This gives time to clients that have
	// begun to connect: their connections come into the queue only after one more round trip.
	emptyFor = time.Second
	// shareFor is used in place of emptyFor if an open listener has the same address as the listener that ends. In this case
	// the kernel gives new clients to both listeners until the old process closes its socket.
	shareFor = time.Minute
)

// emptying takes the remaining connections from the queues of listeners that end.
type emptying struct {
	running sync.WaitGroup

	mu     sync.Mutex
	ending []*net.TCPListener
}

// start begins to empty the queue of a listener: a goroutine calls the function take with each connection in the queue. The
// goroutine closes the listener after limit, or after a call of hurry.
func (e *emptying) start(tcp *net.TCPListener, limit time.Duration, take func(net.Conn)) {
	_ = tcp.SetDeadline(time.Now().Add(limit)) // SetDeadline never fails here
	e.mu.Lock()
	e.ending = append(e.ending, tcp)
	e.mu.Unlock()
	e.running.Go(func() { // the goroutine ends when Accept fails at the deadline
		defer tcp.Close()
		for {
			c, err := tcp.Accept()
			switch {
			case sys.TooManyFiles(err):
				<-time.After(5 * time.Millisecond) // no descriptor is free: wait, and try again until the deadline
			case err != nil:
				return
			default:
				take(c)
			}
		}
	})
}

// hurry makes every goroutine of start end after 10 milliseconds. Until then the goroutines still take connections from the
// queues. hurry does not wait for the goroutines.
func (e *emptying) hurry() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.ending {
		_ = l.SetDeadline(time.Now().Add(10 * time.Millisecond)) // SetDeadline fails if the listener is closed already
	}
	e.ending = nil
}
