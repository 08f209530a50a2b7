package sdnotify

import (
	"net"
	"os"
	"strings"
	"time"
)

// note is one message. Its file is closed when it was sent.
type note struct {
	text string
	file *os.File
	sent chan struct{} // closed then, if it is set
}

func (n *Notifier) send(file *os.File, lines ...string) {
	if n == nil || !n.add(note{text: strings.Join(lines, "\n"), file: file}) {
		file.Close() // which does nothing without a file
	}
}

// add puts a message at the end of the queue, and tells whether there still is one.
func (n *Notifier) add(m note) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.queue = append(n.queue, m)
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return true
}

// flush waits until everything was sent that was said before, at most that long.
func (n *Notifier) flush(limit time.Duration) {
	if n == nil {
		return
	}
	sent := make(chan struct{})
	if !n.add(note{sent: sent}) {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-sent:
	case <-timer.C:
		n.log.Warn("upgrade: the service manager does not read what it is told", "after", limit)
	}
}

// Settle waits a moment until the manager has been told what was said before.
func (n *Notifier) Settle() { n.flush(notifyFlush) }

// Close sends what is left and ends the goroutine.
func (n *Notifier) Close() {
	if n == nil {
		return
	}
	n.flush(notifyLast)
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.stop)
		if n.sending != nil {
			n.sending.Close()
		}
	}
	n.mu.Unlock()
	<-n.done
}

func (n *Notifier) run() {
	defer close(n.done)
	defer n.drop()
	for {
		select {
		case <-n.wake:
		case <-n.stop:
			return
		}
		for m, ok := n.next(); ok; m, ok = n.next() {
			n.deliver(m)
		}
	}
}

func (n *Notifier) next() (note, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == 0 || n.closed {
		return note{}, false
	}
	m := n.queue[0]
	n.queue = n.queue[1:]
	return m, true
}

// drop forgets what cannot be sent any more.
func (n *Notifier) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.queue {
		m.file.Close()
	}
	n.queue = nil
}

// deliver sends a message, however long the manager is busy. One that is gone hears nothing.
func (n *Notifier) deliver(m note) {
	defer m.file.Close()
	if m.sent != nil {
		close(m.sent)
		return
	}
	for {
		err := n.try(m)
		if isTimeout(err) {
			continue
		}
		if err != nil && !n.deaf && !n.ended() { // once: a manager that is gone is gone for the next message too
			n.log.Warn("upgrade: cannot tell the service manager", "what", m.text, "err", err)
		}
		n.deaf = err != nil
		return
	}
}

func (n *Notifier) ended() bool {
	select {
	case <-n.stop:
		return true
	default:
		return false
	}
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// try dials anew for each message: a manager may have made its socket anew.
func (n *Notifier) try(m note) error {
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	n.mu.Lock()
	n.sending = c
	closed := n.closed
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.sending = nil
		n.mu.Unlock()
	}()
	if closed {
		return net.ErrClosed
	}
	if err := c.SetWriteDeadline(time.Now().Add(notifyTry)); err != nil {
		return err
	}
	return m.write(c)
}
