package listener

import (
	"net"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

const (
	// emptyFor is how long the queue of a socket that ends is emptied. A client that has begun to connect needs one round trip more.
	emptyFor = time.Second
	// shareFor is the same for a socket that shares its address: the kernel goes on to give it clients until the old process closes it.
	shareFor = time.Minute
)

// emptying takes what is left in the queues of listeners that end.
type emptying struct {
	running sync.WaitGroup

	mu     sync.Mutex
	ending []*net.TCPListener
}

// start calls take with each connection in the queue of a listener, and closes the listener after limit.
func (e *emptying) start(tcp *net.TCPListener, limit time.Duration, take func(net.Conn)) {
	_ = tcp.SetDeadline(time.Now().Add(limit)) // it never fails
	e.mu.Lock()
	e.ending = append(e.ending, tcp)
	e.mu.Unlock()
	e.running.Go(func() { // ends with the deadline
		defer tcp.Close()
		for {
			c, err := tcp.Accept()
			switch {
			case sys.TooManyFiles(err):
				<-time.After(5 * time.Millisecond) // until the deadline
			case err != nil:
				return
			default:
				take(c)
			}
		}
	})
}

// hurry takes what is in the queues now, and ends them. It does not wait.
func (e *emptying) hurry() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.ending {
		_ = l.SetDeadline(time.Now().Add(10 * time.Millisecond)) // fails if it is closed
	}
	e.ending = nil
}
