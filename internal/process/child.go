package process

import (
	"os"
	"sync"

	"github.com/midair-go/midair/internal/sys"
)

// Child is a process started by Start.
type Child struct {
	// PID is the process id. The process group in which the process was started has the same id.
	PID int
	// Control is the end of the control socket for this process. The caller of Start closes Control.
	Control *os.File
	// Ready is closed when the byte of tableflip's Ready was received.
	Ready chan struct{}
	// Exited is closed when the process has ended and was reaped. From then on Status is how it has ended.
	Exited chan struct{}
	Status string

	queue  sync.Mutex
	theirs *os.File // a copy of the child's end of the control socket, open as long as messages may wait in it; nil: closed
	hold   hold
	readyR *os.File
	life   int // the write end of a pipe: when this process ends, the child reads EOF from the pipe
}

// newChild returns the Child of a process that was just started. The Child owns the files and the descriptor life. theirs may
// be nil.
func newChild(pid int, h hold, control, theirs, readyR *os.File, life int) *Child {
	c := &Child{
		PID: pid, Control: control, Ready: make(chan struct{}), Exited: make(chan struct{}),
		theirs: theirs, hold: h, readyR: readyR, life: life,
	}
	go c.awaitReady() // ends with the byte, with Close, or when all processes have closed the other end of the pipe
	go c.wait()       // ends with the process; after a commit the child usually outlives this process
	return c
}

func (c *Child) awaitReady() {
	defer c.readyR.Close()
	var b [1]byte
	if n, _ := c.readyR.Read(b[:]); n == 1 && b[0] == readyByte {
		close(c.Ready)
	}
}

func (c *Child) wait() {
	c.Status = c.hold.wait()
	c.empty()
	close(c.Exited)
}

// Queued calls the function send, which sends messages for the child, and returns the error of send. The messages wait in the
// control socket until the child reads them. If the child has ended, or Took was called, Queued does not call send and returns
// os.ErrProcessDone.
func (c *Child) Queued(send func() error) error {
	c.queue.Lock()
	defer c.queue.Unlock()
	if c.theirs == nil {
		return os.ErrProcessDone
	}
	return send()
}

// Took notes that the child has read all messages that were queued. Until then this process has a copy of the child's end of
// the control socket, so a reader of Control does not notice the end of the child. If the child ends before Took is called, the
// unread messages are removed from the socket, and their files are closed. This is needed because another process may have
// inherited the child's end, and would keep the messages and their files.
func (c *Child) Took() {
	c.queue.Lock()
	defer c.queue.Unlock()
	c.theirs.Close() // does nothing if theirs is nil
	c.theirs = nil
}

// empty removes the messages that wait for a child that has ended, and closes their files.
func (c *Child) empty() {
	c.queue.Lock()
	defer c.queue.Unlock()
	if c.theirs != nil {
		sys.Empty(c.theirs)
		c.theirs.Close()
		c.theirs = nil
	}
}

// Signal sends a signal. It does nothing if the process has ended.
func (c *Child) Signal(sig os.Signal) { _ = c.hold.Signal(sig) }

// Kill kills the process, and all other processes in the group in which the process was started. The process is killed even if
// it has changed its group. After the process was reaped, Kill usually does nothing, since another group may have the same
// number. From Linux 6.9 on there is an exception: the pidfd of a sibling (see Program.AsSibling) still refers to the group, so
// Kill kills the rest of the group. The error is about the process and not about the group: for example, this process may have
// no right to kill a process of another user.
func (c *Child) Kill() error { return c.hold.kill() }

// Ended reports whether the process has ended. The result may be true a moment before Exited is closed.
func (c *Child) Ended() bool { return c.hold.ended() }

// PIDFD returns a descriptor of the process, for FromPIDFD in another process. The caller closes the descriptor. The error is
// os.ErrProcessDone if the process has been reaped. PIDFD works on Linux only.
func (c *Child) PIDFD() (*os.File, error) { return c.hold.pidfd() }

// Close closes the pipes to a child that has ended, but not Control. After a commit Close must not be called: the child would
// believe that this process has ended, because one of the pipes ends.
func (c *Child) Close() {
	c.readyR.Close()
	c.hold.close()
	sys.CloseFD(c.life)
}
