package sdnotify

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// note is a message in the queue. Its files are closed after the sending.
type note struct {
	text  string
	files []*os.File
	sent  chan error // receives the result of the sending; may be nil
	due   time.Time  // the message must not be sent after this time; zero: there is no limit
}

var errLate = errors.New("it does not read what it is told")

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

// add puts a message at the end of the queue. If no message can be sent any more, add does nothing and returns false.
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

// flush waits until all messages in the queue were sent, at most for limit.
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

// Settle waits until all messages in the queue were sent, at most for half a second.
func (n *Notifier) Settle() { n.flush(notifyFlush) }

// sendNow sends a message with files, waits for the result at most for limit, and closes the files.
func (n *Notifier) sendNow(limit time.Duration, files []*os.File, lines ...string) error {
	return n.put(limit, note{text: strings.Join(lines, "\n"), files: files, sent: make(chan error, 1)})
}

// put adds a message to the queue, and waits for the result of the sending. The message is sent within limit, or not at all: if
// put returns an error, the message was not sent and is not sent later.
func (n *Notifier) put(limit time.Duration, m note) error {
	m.due = time.Now().Add(limit)
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
	}
	if n.withdraw(m) {
		m.close()
		return errLate
	}
	return <-m.sent // deliver has begun to send the message, and gives up at m.due
}

// withdraw removes a message from the queue, and reports whether it was there.
func (n *Notifier) withdraw(m note) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.queue)
	n.queue = slices.DeleteFunc(n.queue, func(q note) bool { return q.sent == m.sent })
	return len(n.queue) < before
}

// Close waits at most two seconds until the messages in the queue were sent, and then ends the goroutines.
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

// drop removes all messages from the queue, because no message can be sent any more.
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

// deliver sends a message. If the manager does not read in time, deliver tries again, until the due time of the message or
// until Close. After any other error deliver gives up.
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
		if err != nil && !n.deaf && !n.ended() { // log only the first of several failures in a row
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

// try sends a message, and waits at most two seconds. The supervisor gets the message over the channel. For another manager try
// makes a connection for each message, because the manager may have replaced its socket.
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
