package process

import (
	"fmt"
	"os"

	"github.com/midair-go/midair/internal/sys"
)

// Child is a process that Start has started.
type Child struct {
	// PID is its process id, which is the id of its process group too.
	PID int
	// Control is this end of the control socket. The one who uses it closes it.
	Control *os.File
	// Ready is closed when tableflip's Ready byte has come.
	Ready chan struct{}
	// Exited is closed when the process has ended and was reaped. Status says how from then on.
	Exited chan struct{}
	Status string

	proc   *os.Process
	readyR *os.File
	life   int // write end of the pipe that tells the child when this process ends
}

// newChild follows a process from its start. The files and the descriptor life become the child's.
func newChild(pid int, control, readyR *os.File, life int) (*Child, error) {
	proc, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("find pid %d: %w", pid, err)
	}
	c := &Child{
		PID: pid, Control: control, Ready: make(chan struct{}), Exited: make(chan struct{}),
		proc: proc, readyR: readyR, life: life,
	}
	go c.awaitReady() // ends with the byte, when no process holds the other end any more, or with Close
	go c.wait()       // ends with the process: after a commit that is later than the end of this process
	return c, nil
}

func (c *Child) awaitReady() {
	defer c.readyR.Close()
	var b [1]byte
	if n, _ := c.readyR.Read(b[:]); n == 1 && b[0] == readyByte {
		close(c.Ready)
	}
}

// wait reaps the process.
func (c *Child) wait() {
	state, err := c.proc.Wait()
	c.Status = fmt.Sprint(state)
	if err != nil {
		c.Status = err.Error()
	}
	close(c.Exited)
}

// Signal sends a signal, to nobody if the process has ended.
func (c *Child) Signal(sig os.Signal) { _ = c.proc.Signal(sig) }

// Kill ends the process and what it has started, by its process group. Between the end and the reaping, which follows at
// once, the number can be nobody else's.
func (c *Child) Kill() {
	if alive(c.proc) {
		killGroup(c.PID)
	}
}

// Close closes the pipes to a child that has died; Control is its user's. It is not called after a commit: the end of the
// pipe tells the child that this process is gone.
func (c *Child) Close() {
	c.readyR.Close()
	sys.CloseFD(c.life)
}
