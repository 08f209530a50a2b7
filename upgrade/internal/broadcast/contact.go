package broadcast

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// message is a message of this generation.
type message struct {
	seq  uint64
	at   time.Duration // when it was sent, by sys.Uptime
	name string
	data []byte
}

// contact is another generation, and the broadcast socket to it. A goroutine sends what is in the queue, and another goroutine
// receives. The fields from out on are protected by Hub.mu.
type contact struct {
	hub  *Hub
	link *wire.Link
	wake chan struct{} // gets a value when the queue has grown
	stop chan struct{} // closed by end
	once sync.Once

	who     wire.IntroduceBody
	out     queue[*delivery]
	greeted bool  // the other generation has sent introduce: it reads this socket
	leaves  bool  // the other generation has said that it ends
	stuck   bool  // the other generation has left no room in the socket for waitLimit
	dropped int   // how many messages in the queue were dropped since the last report
	over    error // why nothing is sent any more; nil while messages are sent
}

func newContact(h *Hub, l *wire.Link, who wire.IntroduceBody) *contact {
	return &contact{hub: h, link: l, who: who, wake: make(chan struct{}, 1), stop: make(chan struct{})}
}

// delivery is a message in the queue of a contact.
type delivery struct {
	to   *contact
	m    *message
	done chan error // receives the result
}

// errDropped means that a message was dropped because too many messages wait for a generation.
var errDropped = errors.New("too many messages wait for it")

// put adds a message to the queue. The caller holds Hub.mu.
func (c *contact) put(m *message) *delivery {
	d := &delivery{c, m, make(chan error, 1)}
	if c.over != nil {
		d.done <- c.over
		return d
	}
	for _, old := range c.out.put(d, len(m.data), queueMost, queueBytes) {
		c.dropped++
		old.done <- errDropped
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return d
}

// await waits until the message is in the socket, at most until the channel late has delivered a value; over is true from then
// on. It does not wait for a generation that is stuck. The result is the reason why the generation does not get the message; it
// is empty if the message is in the socket, if the generation has ended, and if the generation is being started and gets the
// message later.
func (d *delivery) await(late <-chan time.Time, over *bool) string {
	who, greeted, stuck := d.to.state()
	if !*over && !stuck {
		select {
		case err := <-d.done:
			d.done <- err
		case <-late:
			*over = true
		}
	}
	select {
	case err := <-d.done:
		if isFailure(err) {
			return fmt.Sprintf("%s does not get the message: %v", nameOf(who), err)
		}
		return ""
	default:
	}
	if !greeted {
		return ""
	}
	return nameOf(who) + " does not read: the message waits for it"
}

// state returns what await has to know.
func (c *contact) state() (who wire.IntroduceBody, greeted, stuck bool) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return c.who, c.greeted, c.stuck
}

func (c *contact) setStuck(on bool) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.stuck = on
}

// write sends the greeting, and then the messages in the queue, until the contact ends. The greeting is not in the queue, which
// may drop the oldest message: the other generation ignores all messages without a greeting.
func (c *contact) write() {
	err := c.send(wire.KindIntroduce, wire.IntroduceBody{PID: os.Getpid(), ID: c.hub.id})
	for err == nil {
		d, ok := c.next()
		if !ok {
			err = os.ErrClosed
			break
		}
		err = c.send(wire.KindBroadcast, wire.BroadcastBody{Seq: d.m.seq, Name: d.m.name, Data: d.m.data})
		d.done <- err
		c.report()
	}
	c.abandon(err)
	if who, _, _ := c.state(); isFailure(err) {
		c.hub.log.Warn("upgrade: broadcasts do not reach a generation any more", "generation", who.Generation, "pid", who.PID, "err", err)
	}
	if !wire.Gone(err) { // else read ends the contact: perhaps the last message of the other generation says that its Run ends
		c.end()
	}
}

// isFailure reports whether the result of a delivery is an error although the other generation lives, as far as this process
// knows.
func isFailure(err error) bool {
	return err != nil && !wire.Gone(err) && !errors.Is(err, os.ErrClosed)
}

// report logs how many messages were dropped when the other generation reads again, and no message waits any more.
func (c *contact) report() {
	c.hub.mu.Lock()
	n := 0
	if c.out.len() == 0 {
		n, c.dropped = c.dropped, 0
	}
	who := c.who
	c.hub.mu.Unlock()
	if n > 0 {
		c.hub.log.Warn("upgrade: broadcasts were dropped: a generation has not read for too long", "generation", who.Generation, "pid", who.PID, "dropped", n)
	}
}

// next waits for the next message in the queue. The result is false when the contact has ended.
func (c *contact) next() (*delivery, bool) {
	for {
		select {
		case <-c.stop:
			return nil, false
		default:
		}
		c.hub.mu.Lock()
		d, ok := c.out.take()
		c.hub.mu.Unlock()
		if ok {
			return d, true
		}
		select {
		case <-c.wake:
		case <-c.stop:
		}
	}
}

// abandon empties the queue of a contact that ends. The error is the result of the deliveries, also of later ones.
func (c *contact) abandon(err error) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.over = err
	for d, ok := c.out.take(); ok; d, ok = c.out.take() {
		d.done <- err
	}
}

// send sends a message, and waits as long as the other generation has left no room in the socket. The error is os.ErrClosed if
// this process has ended the contact.
func (c *contact) send(kind wire.Kind, body any) error {
	for {
		err := c.link.SendWithin(kind, body, nil, c.hub.limit)
		if errors.Is(err, errors.ErrUnsupported) { // the socket cannot send a message completely or not at all
			err = c.link.Send(kind, body)
		}
		switch {
		case err == nil:
			c.setStuck(false)
			return nil
		case c.isOver():
			return os.ErrClosed
		case !wire.Busy(err):
			return err
		}
		c.setStuck(true)
	}
}

func (c *contact) isOver() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// read receives until the other generation closes the socket, or until the contact ends.
func (c *contact) read() {
	for f := range c.link.Frames {
		c.receive(f)
		f.Close()
	}
	c.hub.drop(c)
	c.end()
}

func (c *contact) receive(f wire.Frame) {
	switch f.Kind {
	case wire.KindIntroduce:
		var who wire.IntroduceBody
		if f.Decode(&who) == nil {
			c.hub.greet(c, who)
		}
	case wire.KindBroadcast:
		var m wire.BroadcastBody
		if f.Decode(&m) == nil && m.Name != "" && len(m.Name) <= NameLimit {
			c.hub.receive(c, m)
		}
	}
}

// greet notes that a generation reads the socket, or is about to end.
func (h *Hub) greet(c *contact, who wire.IntroduceBody) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.greeted, c.who.ID = true, who.ID
	c.leaves = c.leaves || who.Ends // the greeting comes last if the other generation ends while it sends the greeting
	if c.who.PID == 0 {
		c.who.PID = who.PID
	}
	h.expected = without(h.expected, c.who.PID)
}

// leaveLimit is how long leave waits for other senders if the other generation does not read. They may wait for room in the socket
// as long as Hub.limit.
const leaveLimit = 20 * time.Millisecond

// leave tells the other generation about the end of Run, and closes the socket. If the socket has no room, Broadcast in the other
// generation names this generation until the process ends.
func (c *contact) leave() {
	_, _, stuck := c.state()
	limit := c.hub.limit // usually no sender waits for room; but a slow machine may stop the goroutine of one for a while
	if stuck {
		limit = leaveLimit
	}
	body := wire.IntroduceBody{PID: os.Getpid(), ID: c.hub.id, Ends: true}
	if err := c.link.TrySend(wire.KindIntroduce, body, nil, limit); errors.Is(err, errors.ErrUnsupported) && !stuck {
		_ = c.link.Send(wire.KindIntroduce, body)
	}
	c.end()
}

// end closes the socket. It may be called by the goroutines of the contact, and more than once.
func (c *contact) end() {
	c.once.Do(func() {
		close(c.stop)
		c.link.Close()
	})
}

// queue is a bounded queue: if there are too many elements, the oldest are dropped.
type queue[T any] struct {
	all   []element[T]
	bytes int
}

type element[T any] struct {
	value T
	size  int
}

const (
	queueMost  = 1024    // how many messages wait at most
	queueBytes = 1 << 20 // how many bytes their data has at most
)

func (q *queue[T]) len() int { return len(q.all) }

// put adds an element, and returns the dropped elements.
func (q *queue[T]) put(value T, size, most, bytes int) (dropped []T) {
	q.all, q.bytes = append(q.all, element[T]{value, size}), q.bytes+size
	for len(q.all) > most || q.bytes > bytes {
		old, _ := q.take()
		dropped = append(dropped, old)
	}
	return dropped
}

// take removes the oldest element.
func (q *queue[T]) take() (value T, ok bool) {
	if len(q.all) == 0 {
		return value, false
	}
	e := q.all[0]
	q.all[0] = element[T]{}
	q.all, q.bytes = q.all[1:], q.bytes-e.size
	return e.value, true
}
