package listener

import (
	"net"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

const (
	// emptyFor is how long connections are taken from the queue of a listener that ends. It is not 0, because a client that has
	// begun to connect needs one more round trip until its connection is in the queue.
	emptyFor = time.Second
	// shareFor is used in place of emptyFor if an open listener has the same address as the listener that ends. The kernel
	// gives new clients to both listeners until the old process closes its socket.
	shareFor = time.Minute
)

// emptying takes the remaining connections from the queues of listeners that end.
type emptying struct {
	running sync.WaitGroup

	mu     sync.Mutex
	ending []*net.TCPListener
}

// start makes a goroutine that calls the function take with each connection in the queue of a listener. After limit the
// goroutine closes the listener.
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
				<-time.After(5 * time.Millisecond) // no descriptor is free: wait, and call Accept again until the deadline
			case err != nil:
				return
			default:
				take(c)
			}
		}
	})
}

// hurry makes every goroutine of start end within 10 milliseconds. Until then the goroutine still takes the connections in the
// queue. hurry does not wait for the goroutines.
func (e *emptying) hurry() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.ending {
		_ = l.SetDeadline(time.Now().Add(10 * time.Millisecond)) // SetDeadline fails if the listener is closed already
	}
	e.ending = nil
}
