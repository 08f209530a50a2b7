package upgrade

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// traffic passes connections of servers, and messages for the judge, to another generation during an upgrade. Servers call its
// methods from their own goroutines. The generation and its attempts decide which process gets the connections and messages.
type traffic struct {
	listeners *listener.Set
	mover     atomic.Pointer[handoff.Mover] // nil while connections do not move; only setMover writes it
	moving    sync.RWMutex                  // read-locked while move runs, for awaitMoves
	publisher atomic.Pointer[wire.Link]     // the link to the old process, while this process is a candidate; otherwise nil
	hurry     chan struct{}                 // closed when servers should close their idle connections at once
	hurryOnce sync.Once

	mu     sync.Mutex
	offers []chan struct{} // the channels that rebalance has returned to servers
}

// setMover sets the Mover that moves connections from now on, and stops the one before: the calls of move that wait for the other
// process end. If m is nil, connections no longer move.
func (t *traffic) setMover(m handoff.Mover) {
	var next *handoff.Mover
	if m != nil {
		next = &m
	}
	if before := t.mover.Swap(next); before != nil {
		(*before).Stop()
	}
}

// prefixLimit is the size limit of a prefix that travels with a connection, in bytes before the base64 encoding.
const prefixLimit = 16 << 10

// move moves a connection to another generation, and reports whether that generation has taken the connection. prefix has the
// bytes that the other generation reads before the bytes from the client.
func (t *traffic) move(c net.Conn, prefix []byte) bool {
	t.moving.RLock()
	defer t.moving.RUnlock()
	m := t.mover.Load()
	if c = handoff.Lowest(c); m == nil || c == nil {
		return false
	}
	if unread := handoff.Unread(c); len(unread) > 0 { // c was moved to this process with a prefix, and a part is still unread
		prefix = append(prefix[:len(prefix):len(prefix)], unread...)
	}
	from, ok := t.listeners.Of(c)
	return ok && len(prefix) <= prefixLimit && (*m).Move(from, c, prefix)
}

// movesLimit is how long awaitMoves waits at most. A call of move takes longer if the other process is stopped.
const movesLimit = 2 * time.Second

// awaitMoves waits until no call of move is running, but not longer than movesLimit. It does not hold up later calls, which use
// only the present mover.
func (t *traffic) awaitMoves() {
	for until := time.Now().Add(movesLimit); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if t.moving.TryLock() {
			t.moving.Unlock()
			return
		}
	}
}

// rebalance returns a new channel that receives a value at each call of offer.
func (t *traffic) rebalance() <-chan struct{} {
	ch := make(chan struct{}, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.offers = append(t.offers, ch)
	return ch
}

// offer makes servers call Move for every idle connection.
func (t *traffic) offer() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ch := range t.offers {
		select {
		case ch <- struct{}{}:
		default: // the server has not received the value of an earlier offer yet
		}
	}
}

// closeIdle makes servers close their idle connections, also those that wait in move.
func (t *traffic) closeIdle() {
	t.hurryOnce.Do(func() { close(t.hurry) })
	if m := t.mover.Load(); m != nil {
		(*m).Stop()
	}
}

// publishWait is how long publish waits if another goroutine is sending on the link.
const publishWait = time.Millisecond

// messageLimit is the size limit of a published message, in bytes before the base64 encoding.
const messageLimit = 16 << 10

// publish sends a message of the program to the old process.
func (t *traffic) publish(name string, data []byte) error {
	if len(data) > messageLimit {
		return fmt.Errorf("upgrade: publish %q: %d bytes are more than %d", name, len(data), messageLimit)
	}
	l := t.publisher.Load()
	if l == nil {
		return fmt.Errorf("%w: this process is no candidate", ErrNotReady)
	}
	if err := l.TrySend(wire.KindMessage, wire.MessageBody{Name: name, Data: data}, nil, publishWait); err != nil {
		return fmt.Errorf("upgrade: publish %q: %w", name, unsupported(err))
	}
	return nil
}
