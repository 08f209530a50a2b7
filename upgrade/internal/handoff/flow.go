package handoff

import (
	"container/list"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

const (
	// window is how many messages of connections may be without an answer. It limits how many descriptors are on their way, and
	// how many connections of clients wait for a busy process.
	window = 4
	// againAfter is the pause after a message that could not be sent: the socket is full, or too many descriptors are on their
	// way between the processes of this user.
	againAfter = 2 * time.Millisecond
)

// flow sends idle connections to another process, in the order in which they were offered. At most window messages are without
// an answer, so the other process sets the pace. A connection whose turn has not come stays with this process: if the client
// sends something, the connection leaves the flow and is served here. So neither a busy nor a stopped process delays a request
// for longer than the few connections that are on their way, and no connection is closed because a process is busy.
type flow struct {
	link  *wire.Link
	cargo cargo

	mu     sync.Mutex
	queue  list.List   // the offers whose turn has not come
	flying int         // how many messages have no answer
	again  *time.Timer // calls pump after againAfter; nil: no call is due
	full   func()      // called once, when the other process has no room for a connection; nil: nobody wants to know
	over   bool        // stop was called
}

// cargo decides about connections, and keeps account of them. A flow calls its methods one at a time, with the lock of the flow
// locked. They must not wait.
type cargo interface {
	// load is called when a connection can be sent, and decides what becomes of it. If it cannot be sent after all, load is called
	// again later for the same offer. load may set o.file.
	load(o *offer) fate
	// landed is called after load has returned goes. took is true if the other process has taken the connection. The result is
	// true if the connection does not belong to this process any more. landed owns o.file.
	landed(o *offer, took bool) (left bool)
}

// fate is what becomes of an offered connection.
type fate int

const (
	stays fate = iota // the connection stays in this process
	goes              // the connection is to be sent
	left              // the other process has the connection without a message
)

// offer is an idle connection that a server has offered.
type offer struct {
	conn  net.Conn // as the server has offered it
	about wire.ConnBody
	file  *os.File // the descriptor that is sent; nil before the turn

	loaded bool          // load has returned goes
	turn   uint32        // for the cargo: the turn in which it has decided
	noRoom bool          // the other process lives, and could not take the connection
	unread bool          // for the cargo: its slot was slotIdle, so the old process can serve the connection by its own descriptor
	place  *list.Element // nil: the offer is not in the queue
	result chan bool     // receives whether the other process has the connection
}

func newFlow(l *wire.Link, c cargo, full func()) *flow { return &flow{link: l, cargo: c, full: full} }

// move offers a connection, and reports whether the other process has it now. It waits until the turn of the connection has
// come, as long as the client sends nothing. If move returns true, the caller closes the connection. If it returns false, the
// connection may have lost its read deadline.
func (f *flow) move(c net.Conn, about wire.ConnBody) bool {
	o := &offer{conn: c, about: about, result: make(chan bool, 1)}
	if !about.Idle || !f.link.Answers() {
		return f.moveAlone(o)
	}
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return false
	}
	o.place = f.queue.PushBack(o)
	f.pump()
	f.mu.Unlock()
	if !o.settled() {
		o.awaitBytes()
		f.withdraw(o)
	}
	took := <-o.result
	if !took {
		_ = Bare(c).SetReadDeadline(time.Time{})
	}
	return took
}

// moveAlone sends a connection in a message of its own, which has no answer: the connection has bytes ahead, or the library of
// the other process is too old for answers. moveAlone waits for a busy process, see patience.
func (f *flow) moveAlone(o *offer) bool {
	f.mu.Lock()
	to := stays
	if !f.over {
		to = f.load(o)
	}
	f.mu.Unlock()
	if to != goes {
		return to == left
	}
	err := o.open()
	if err == nil {
		err = f.link.SendWithin(wire.KindConn, o.about, o.file, patience(o.about))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o.noRoom = err != nil && !wire.Gone(err)
	return f.cargo.landed(o, err == nil)
}

func (f *flow) load(o *offer) fate {
	to := f.cargo.load(o)
	o.loaded = to == goes
	return to
}

// open duplicates the descriptor of the connection, unless load has done so.
func (o *offer) open() (err error) {
	if o.file == nil {
		o.file, err = sys.ConnFile(Bare(o.conn))
	}
	return err
}

// settled reports whether there is a result.
func (o *offer) settled() bool { return len(o.result) > 0 }

// awaitBytes waits until there is a result, the client has sent something or has closed, or the connection was closed here. A
// result sets the read deadline.
func (o *offer) awaitBytes() {
	sc, ok := Bare(o.conn).(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Read(sys.Readable)
	}
}

// withdraw takes an offer out of the queue: the connection stays.
func (f *flow) withdraw(o *offer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.place != nil {
		f.settle(o, false)
	}
}

// settle gives an offer its result.
func (f *flow) settle(o *offer, took bool) {
	if o.place != nil {
		f.queue.Remove(o.place)
		o.place = nil
	}
	if o.loaded {
		took = f.cargo.landed(o, took)
	}
	_ = Bare(o.conn).SetReadDeadline(time.Unix(1, 0)) // ends awaitBytes; move takes the deadline away after the result
	o.result <- took
}

func (o *offer) close() {
	o.file.Close() // does nothing if file is nil
	o.file = nil
}

// pump sends as many connections as the window allows.
func (f *flow) pump() {
	for !f.over && f.flying < window && f.queue.Len() > 0 {
		batch := f.pick()
		if len(batch) == 0 {
			f.pause()
			return
		}
		conns, files := make([]wire.ConnBody, len(batch)), make([]*os.File, len(batch))
		for i, o := range batch {
			conns[i], files[i] = o.about, o.file
		}
		err := f.link.SendConns(conns, files, func(took int) { f.answered(batch, took) })
		if err != nil {
			for _, o := range batch {
				o.close()
			}
			if wire.Busy(err) {
				f.pause()
			} else {
				f.clear() // the link has ended, or an older build that does not answer reads from it
			}
			return
		}
		f.flying++
		for _, o := range batch {
			f.queue.Remove(o.place)
			o.place = nil
		}
	}
}

// pick returns the next connections to be sent. They stay in the queue. pick gives the connections that stay here their results.
func (f *flow) pick() (batch []*offer) {
	text := 0
	for e := f.queue.Front(); e != nil && len(batch) < wire.MostConns && text < wire.MostText; {
		o := e.Value.(*offer)
		e = e.Next()
		if to := f.load(o); to != goes {
			f.settle(o, to == left)
			continue
		}
		if o.open() != nil { // no free descriptor: each connection that moves leaves one
			return batch
		}
		batch = append(batch, o)
		text += len(o.about.Network) + len(o.about.Addr) + len(o.about.Unit)
	}
	return batch
}

// pause makes the flow try again after againAfter.
func (f *flow) pause() {
	if f.queue.Len() == 0 || f.again != nil {
		return
	}
	f.again = time.AfterFunc(againAfter, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.again = nil
		f.pump()
	})
}

// answered handles the answer to a message.
func (f *flow) answered(batch []*offer, took int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flying--
	noRoom := took < len(batch) && f.link.Answers()
	if noRoom && f.full != nil {
		f.full()
		f.full = nil
	}
	for i, o := range batch {
		o.noRoom = noRoom
		f.settle(o, i < took)
	}
	f.pump()
}

// stop ends the flow. The connections whose turn has not come stay here.
func (f *flow) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	f.clear()
}

// clear makes the connections stay here whose turn has not come.
func (f *flow) clear() {
	for f.queue.Len() > 0 {
		f.settle(f.queue.Front().Value.(*offer), false)
	}
}
