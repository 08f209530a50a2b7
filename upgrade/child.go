package upgrade

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// child is the process of a candidate, with the files that this process has open for the candidate.
type child struct {
	*process.Child
	link        *wire.Link
	channel     *os.File // the candidate's end of its channel to the supervisor, sent with the welcome; nil if there is none
	unannounced error    // why the candidate could not be announced to the supervisor
	passing     *passing // the listening sockets for the candidate
	stopped     bool     // stop was called
}

// stop sends the child SIGTERM, but only once. When Run of the child has returned, the child does not handle signals any more:
// a second SIGTERM would kill the child before its main function has returned.
func (c *child) stop() {
	if !c.stopped {
		c.stopped = true
		c.Signal(syscall.SIGTERM)
	}
}

// close closes the files for the child after the attempt was taken back. If the child still lives, close does not wait, and
// the files are closed when the child ends. If the files were closed earlier, the child would take the end of the control
// socket for the death of this process. After a commit, close is not called.
func (c *child) close() {
	c.channel.Close() // does nothing if channel is nil
	select {
	case <-c.Exited:
		c.drop()
	default:
		go func() { // ends when the child ends: SIGKILL was sent
			<-c.Exited
			c.drop()
		}()
	}
}

func (c *child) drop() {
	c.passing.close()
	c.link.Close()
	c.Child.Close()
}

// unknown returns why the child could not be announced to the supervisor. It returns nil if the child was announced. It also
// returns nil if the child has ended: then the attempt fails because of the exit. A child is reaped a moment before Exited is
// closed. During this moment only os.ErrProcessDone shows that the child has ended.
func (c *child) unknown() error {
	if c.gone() || errors.Is(c.unannounced, os.ErrProcessDone) {
		return nil
	}
	return c.unannounced
}

// exited returns a channel that is closed when the child has ended; nil if c is nil.
func (c *child) exited() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.Exited
}

func (c *child) gone() bool {
	select {
	case <-c.Exited:
		return true
	default:
		return false
	}
}

// died returns an error with the exit status if the child has died. It returns nil if the child lives, or has ended with status
// 0, as a child does after a stop. After the time that the argument until gives, died returns nil in any case, because an
// upgrade may have replaced the child.
func (c *child) died(until time.Time) error {
	if !c.Ended() || !time.Now().Before(until) {
		return nil
	}
	<-c.Exited // is closed a moment after the end of the child
	if c.Status == "exit status 0" {
		return nil
	}
	return fmt.Errorf("it ended before systemd knew it: %s", c.Status)
}

// mayAccept reports whether the child was sent KindOpen or KindShare. If so, the child may have requests to finish.
func (c *child) mayAccept() bool { return c.link.Sent(wire.KindOpen) || c.link.Sent(wire.KindShare) }

// more sends the next sockets. The frame f is KindListeners, with which the child confirms the sockets sent so far.
func (c *child) more(f wire.Frame) error {
	var took wire.ListenersBody
	if err := f.Decode(&took); err != nil {
		return err
	}
	s := c.passing
	if took.Total != s.sent || len(s.rest) == 0 {
		return s.counted(took.Total)
	}
	atStep("old.taken")
	err := c.Queued(func() error { return s.next(c.link.SendFDs) })
	if errors.Is(err, os.ErrProcessDone) || wire.Gone(err) {
		return nil // the attempt reports the exit of the child as the reason
	}
	return err
}

// tookAll notes that the child has received all of its sockets, and closes the sockets that were not sent.
func (c *child) tookAll() {
	c.Took()
	c.passing.close()
}
