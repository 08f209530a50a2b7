package process

import (
	"os"
	"sync"

	"github.com/midair-go/midair/internal/sys"
)

// Child is a process started by Start.
type Child struct {
	// PID is its process id, which is the id of the process group too that it was started in.
	PID int
	// Control is this end of the control socket. The one who uses it closes it.
	Control *os.File
	// Ready is closed when tableflip's Ready byte has come.
	Ready chan struct{}
	// Exited is closed when the process has ended and was reaped. Status says how from then on.
	Exited chan struct{}
	Status string

	queue  sync.Mutex
	theirs *os.File // a copy of the child's end of the control socket, as long as something may wait in it; nil: none
	hold   hold
	readyR *os.File
	life   int // write end of the pipe that tells the child when this process ends
}

// newChild follows a process from the start on. The files, of which theirs may be nil, and the descriptor life become the
// child's.
func newChild(pid int, h hold, control, theirs, readyR *os.File, life int) *Child {
	c := &Child{
		PID: pid, Control: control, Ready: make(chan struct{}), Exited: make(chan struct{}),
		theirs: theirs, hold: h, readyR: readyR, life: life,
	}
	go c.awaitReady() // ends with the byte, when no process holds the other end any more, or with Close
	go c.wait()       // ends with the process: after a commit that is later than the end of this process
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

// Queued sends what waits in the control socket until the child takes it. Queued sends nothing, and returns os.ErrProcessDone,
// when the child has ended or Took was called.
func (c *Child) Queued(send func() error) error {
	c.queue.Lock()
	defer c.queue.Unlock()
	if c.theirs == nil {
		return os.ErrProcessDone
	}
	return send()
}

// Took notes that the child has taken all messages that were queued. Until then this process has a copy of the child's end of
// the control socket, so Control does not end with the child. If the child ends before, the messages left are taken out of the
// socket and closed: another process may have inherited the child's end, and would keep the socket open with everything in it.
func (c *Child) Took() {
	c.queue.Lock()
	defer c.queue.Unlock()
	c.theirs.Close() // which does nothing without a file
	c.theirs = nil
}

// empty closes the messages that wait for a child that has ended.
func (c *Child) empty() {
	c.queue.Lock()
	defer c.queue.Unlock()
	if c.theirs != nil {
		sys.Empty(c.theirs)
		c.theirs.Close()
		c.theirs = nil
	}
}

// Signal sends a signal; nothing if the process has ended.
func (c *Child) Signal(sig os.Signal) { _ = c.hold.Signal(sig) }

// Kill ends the process wherever the process has moved itself, and what is left in the process group of its start. When the
// process was reaped, nothing is killed any more, not even the rest of the group, unless the kernel knows the group by the
// pidfd (Linux 6.9): another group may have the number from then on. The error is why the process itself could not be killed: a
// process of another user, say.
func (c *Child) Kill() error { return c.hold.kill() }

// Ended reports whether the process has ended, which may be a moment before Exited is closed.
func (c *Child) Ended() bool { return c.hold.ended() }

// PIDFD returns a descriptor of the process, for FromPIDFD in another process. The caller closes the descriptor. The error is
// os.ErrProcessDone if the process has been reaped. PIDFD works on Linux only.
func (c *Child) PIDFD() (*os.File, error) { return c.hold.pidfd() }

// Close closes the pipes to a child that has died; Control belongs to its user. Close is not called after a commit: the end of
// the pipe tells the child that this process is gone.
func (c *Child) Close() {
	c.readyR.Close()
	c.hold.close()
	sys.CloseFD(c.life)
}
