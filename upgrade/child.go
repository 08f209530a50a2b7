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

// child is the process of a candidate, with the link to the process.
type child struct {
	*process.Child
	link        *wire.Link
	channel     *os.File // the candidate's end of its channel to the supervisor, which the welcome carries; nil if there is none
	unannounced error    // why the supervisor does not know the candidate
	passing     *passing // the listening sockets
	stopped     bool     // stop was called
}

// stop sends the child SIGTERM, once: after Run the program does not handle signals any more, and a second SIGTERM would end the program
// in the middle of its own end.
func (c *child) stop() {
	if !c.stopped {
		c.stopped = true
		c.Signal(syscall.SIGTERM)
	}
}

// close closes what belongs to a child that was taken back: at once if the child has died, and otherwise at its death. The end of
// the control socket would mean to the child that this process has died. After a commit, close is not called.
func (c *child) close() {
	c.channel.Close() // which does nothing without a file
	select {
	case <-c.Exited:
		c.drop()
	default:
		go func() { // ends with the child, which not even SIGKILL has ended
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

// unknown returns why the supervisor does not know the child; nil if the supervisor does, or if the child has ended, whose end is the
// better reason. A process is reaped a moment before Exited is closed.
func (c *child) unknown() error {
	if c.gone() || errors.Is(c.unannounced, os.ErrProcessDone) {
		return nil
	}
	return c.unannounced
}

// exited is closed when the child has ended; nil without a child.
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

// died returns how the child has ended, except by a stop. After the given time the child may have been replaced, and died returns
// nil.
func (c *child) died(until time.Time) error {
	if !c.Ended() || !time.Now().Before(until) {
		return nil
	}
	<-c.Exited // a moment after its end
	if c.Status == "exit status 0" {
		return nil
	}
	return fmt.Errorf("it ended before systemd knew it: %s", c.Status)
}

// mayAccept reports whether the child has got connections, or was told to accept: it may have requests to finish.
func (c *child) mayAccept() bool { return c.link.Sent(wire.KindOpen) || c.link.Sent(wire.KindShare) }

// more sends the next sockets to a child that has taken the ones before.
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
	err := c.Queued(func() error { return s.next(c.link.Send) })
	if errors.Is(err, os.ErrProcessDone) || wire.Gone(err) {
		return nil // its end is the reason
	}
	return err
}

// tookAll notes that the child has its sockets, and does not need this process for the sockets any more.
func (c *child) tookAll() {
	c.Took()
	c.passing.close()
}
