package listener

import (
	"net"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

const (
	// emptyFor is how long connections are taken from the queue of an ending listener. A client that has begun to connect needs
	// one round trip more.
	emptyFor = time.Second
	// shareFor is the time for a listener with the same address as another listener: the kernel gives both of them new clients
	// until the old process closes its socket.
	shareFor = time.Minute
)

// emptying takes the remaining connections from the queues of ending listeners.
type emptying struct {
	running sync.WaitGroup

	mu     sync.Mutex
	ending []*net.TCPListener
}

// start makes a goroutine that calls the function take with each connection in the queue of a listener, and closes the listener
// after limit.
func (e *emptying) start(tcp *net.TCPListener, limit time.Duration, take func(net.Conn)) {
	_ = tcp.SetDeadline(time.Now().Add(limit)) // never fails
	e.mu.Lock()
	e.ending = append(e.ending, tcp)
	e.mu.Unlock()
	e.running.Go(func() { // the goroutine ends with the deadline
		defer tcp.Close()
		for {
			c, err := tcp.Accept()
			switch {
			case sys.TooManyFiles(err):
				<-time.After(5 * time.Millisecond) // then Accept tries again, until the deadline
			case err != nil:
				return
			default:
				take(c)
			}
		}
	})
}

// hurry makes every started emptying take what is in the queue now, and end within 10 milliseconds, but does not wait for the
// end.
func (e *emptying) hurry() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.ending {
		_ = l.SetDeadline(time.Now().Add(10 * time.Millisecond)) // fails if the listener is closed already
	}
	e.ending = nil
}
