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

// traffic is what servers exchange with other generations during an upgrade: connections, and messages for the judge. Servers call it from
// their goroutines, and the generation and its attempts set where connections and messages go.
type traffic struct {
	listeners *listener.Set
	mover     atomic.Pointer[handoff.Mover]
	moving    sync.RWMutex              // held by those who move, so that one can wait for them
	publisher atomic.Pointer[wire.Link] // to the old process, while this one is a candidate
	hurry     chan struct{}             // closed when idle connections should close at once
	hurryOnce sync.Once

	mu     sync.Mutex
	offers []chan struct{} // of the servers that wait for a new weight
}

// setMover sets what move does from now on; nil: nothing.
func (t *traffic) setMover(m handoff.Mover) {
	if m == nil {
		t.mover.Store(nil)
	} else {
		t.mover.Store(&m)
	}
}

// prefixLimit is the room in a message for prefix, in base64.
const prefixLimit = 16 << 10

// move moves a connection, with bytes that were read already, to another generation.
func (t *traffic) move(c net.Conn, prefix []byte) bool {
	t.moving.RLock()
	defer t.moving.RUnlock()
	m := t.mover.Load()
	if c = handoff.Lowest(c); m == nil || c == nil {
		return false
	}
	if unread := handoff.Unread(c); len(unread) > 0 { // what it brought itself and nobody has read
		prefix = append(prefix[:len(prefix):len(prefix)], unread...)
	}
	from, ok := t.listeners.Of(c)
	return ok && len(prefix) <= prefixLimit && (*m)(from, c, prefix)
}

// awaitMoves returns when every call of move uses the current mover.
func (t *traffic) awaitMoves() {
	t.moving.Lock()
	defer t.moving.Unlock()
}

// rebalance returns a new channel for offer.
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
		default: // it has not looked since the last time
		}
	}
}

// closeIdle makes servers close their idle connections.
func (t *traffic) closeIdle() { t.hurryOnce.Do(func() { close(t.hurry) }) }

// publishWait is how long publish waits while others send.
const publishWait = time.Millisecond

// messageLimit is the size limit of a message, in bytes. Base64 makes a message a third longer in its frame.
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
