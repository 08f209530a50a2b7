package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// note is a message. Its files are closed after the sending.
type note struct {
	text  string
	files []*os.File
	sent  chan error // gets what became of it, if it is set
	due   time.Time  // when it is not sent any more; zero: never
}

var errLate = errors.New("it is too late to be said")

func (m note) close() {
	for _, f := range m.files {
		f.Close()
	}
}

func (n *Notifier) send(file *os.File, lines ...string) {
	m := note{text: strings.Join(lines, "\n")}
	if file != nil {
		m.files = []*os.File{file}
	}
	if n == nil || !n.add(m) {
		m.close()
	}
}

// add puts a message at the end of the queue, and reports whether there still is a queue.
func (n *Notifier) add(m note) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended() || n.manager == lostSupervisor {
		return false
	}
	n.queue = append(n.queue, m)
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return true
}

// flush waits until the messages so far were sent, at most for limit.
func (n *Notifier) flush(limit time.Duration) {
	if n == nil || !n.isAttached() {
		return
	}
	sent := make(chan error, 1)
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

// Settle waits a moment until the messages so far were sent.
func (n *Notifier) Settle() { n.flush(notifyFlush) }

// sendNow sends a message with files, closes the files, and returns the result, or an error after limit.
func (n *Notifier) sendNow(limit time.Duration, files []*os.File, lines ...string) error {
	return n.put(limit, note{text: strings.Join(lines, "\n"), files: files, sent: make(chan error, 1)})
}

// put sends a message, and waits for the result.
func (n *Notifier) put(limit time.Duration, m note) error {
	if !n.add(m) {
		m.close()
		return net.ErrClosed
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-m.sent:
		return err
	case <-timer.C:
		return fmt.Errorf("it does not read what it is told, after %v", limit)
	}
}

// Close sends the rest and ends the goroutine.
func (n *Notifier) Close() {
	if n == nil {
		return
	}
	n.flush(notifyLast)
	n.mu.Lock()
	if !n.ended() {
		close(n.stop)
		if n.sending != nil {
			n.sending.Close()
		}
		if n.channel != nil {
			n.channel.Close()
		}
	}
	deafened := n.deafened
	n.mu.Unlock()
	<-n.done
	if deafened != nil {
		<-deafened
	}
}

func (n *Notifier) run() {
	defer close(n.done)
	defer n.drop()
	select {
	case <-n.attached:
	case <-n.stop:
		return
	}
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
	if len(n.queue) == 0 || n.ended() {
		return note{}, false
	}
	m := n.queue[0]
	n.queue = n.queue[1:]
	return m, true
}

// drop forgets the messages that cannot be sent any more.
func (n *Notifier) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.queue {
		m.close()
		if m.sent != nil {
			m.sent <- net.ErrClosed
		}
	}
	n.queue = nil
}

// deliver sends a message, however long the manager is busy. A manager that is gone gets none.
func (n *Notifier) deliver(m note) {
	defer m.close()
	if m.text == "" {
		m.sent <- nil
		return
	}
	for {
		if !m.due.IsZero() && !time.Now().Before(m.due) {
			m.sent <- errLate
			return
		}
		err := n.try(m)
		if isTimeout(err) && !n.ended() {
			continue
		}
		if m.sent != nil {
			m.sent <- err
		}
		if err != nil && !n.deaf && !n.ended() { // once: a manager that is gone is gone for the next message too
			n.log.Warn("upgrade: cannot tell the service manager", "what", m.text, "err", err)
		}
		n.deaf = err != nil
		return
	}
}

func (n *Notifier) isAttached() bool {
	select {
	case <-n.attached:
		return true
	default:
		return false
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

// try sends over the channel to the supervisor. For another manager try connects anew for each message: the manager may have
// made its socket anew.
func (n *Notifier) try(m note) error {
	until := time.Now().Add(notifyTry)
	if !m.due.IsZero() && m.due.Before(until) {
		until = m.due
	}
	if n.addr == nil {
		if err := n.channel.SetWriteDeadline(until); err != nil {
			return err
		}
		return m.write(n.channel)
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	n.mu.Lock()
	n.sending = c
	closed := n.ended()
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.sending = nil
		n.mu.Unlock()
	}()
	if closed {
		return net.ErrClosed
	}
	if err := c.SetWriteDeadline(until); err != nil {
		return err
	}
	return m.write(c)
}
