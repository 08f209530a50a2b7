package supervisor

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/midair-go/midair/internal/process"
	"golang.org/x/sys/unix"
)

// children are the processes that the supervisor follows. Every generation is a child of the supervisor from its birth, and the
// processes that a generation leaves behind become children as well. The processes are waited for without os/exec and
// os.Process, because a single loop of wait4 reaps all children. The generation that has started a candidate cannot wait for
// the candidate, so the supervisor sends it a message with the exit status.
type children struct {
	all       map[int]*proc // by proc.key
	nameless  int           // the last negative key that was given to a process without a pid
	strangers strangers
	readable  chan *proc    // a process that has sent something
	deaths    chan *proc    // a process that has ended
	quit      chan struct{} // closed by close: the other channels are not read any more
}

func newChildren() *children {
	return &children{all: map[int]*proc{}, readable: make(chan *proc), deaths: make(chan *proc), quit: make(chan struct{})}
}

func (c *children) close() {
	close(c.quit)
	for _, p := range c.all {
		p.close()
	}
}

// follow begins to watch a process: the messages on its channel, and its end. The proc owns the handle and the channel from now
// on.
func (c *children) follow(handle *process.Handle, channel *os.File) *proc {
	p := newProc(handle, channel)
	if p.pid == 0 { // the process was reaped already, but its messages are still to be read
		c.nameless--
		p.key = c.nameless
	}
	c.all[p.key] = p
	go func() { // ends with the channel, with the process, or with the supervisor
		defer close(p.inbox.done)
		for p.inbox.await() {
			select {
			case c.readable <- p:
				if !p.inbox.answered() {
					return
				}
			case <-p.inbox.quit:
				return
			}
		}
	}()
	go func() { // ends with the process or with the supervisor
		_ = handle.Wait()
		select {
		case c.deaths <- p:
		case <-c.quit:
		}
	}()
	return p
}

// forget removes a process that has ended, and reports whether the process was still in the map. If another process has got the
// same pid, admit has removed the ended process already.
func (c *children) forget(p *proc) bool {
	if c.all[p.key] != p {
		return false
	}
	delete(c.all, p.key)
	return true
}

// byNumber lists all processes, the oldest generation first.
func (c *children) byNumber() []*proc {
	return slices.SortedFunc(maps.Values(c.all), func(a, b *proc) int { return cmp.Compare(a.number, b.number) })
}

// of lists the processes that the given parent has announced.
func (c *children) of(parent *proc) []*proc {
	return slices.DeleteFunc(c.byNumber(), func(p *proc) bool { return p.parent != parent })
}

// heirs lists the processes that may become the service without a further order of the supervisor.
func (c *children) heirs() []*proc {
	return slices.DeleteFunc(c.byNumber(), func(p *proc) bool { return !p.mayTakeOver() })
}

// orphans lists the orphans that live and were not dismissed, the newest first.
func (c *children) orphans() []*proc {
	all := slices.DeleteFunc(c.byNumber(), func(p *proc) bool { return !p.isOrphan() })
	slices.Reverse(all)
	return all
}

// nextNumber returns a number that is greater than the argument least, and greater than the numbers of all processes.
func (c *children) nextNumber(least int) int {
	for _, p := range c.all {
		least = max(least, p.number)
	}
	return least + 1
}

func (c *children) kill() {
	for _, p := range c.all {
		p.kill()
	}
}

// reap waits for every child that has ended, also for children that other processes have left behind, and calls the function
// suspended for each process that a signal has suspended.
func (c *children) reap(suspended func(p *proc, by syscall.Signal)) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG|unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		switch p := c.all[pid]; {
		case p == nil:
			c.strangers.add(pid, ws)
		case ws.Stopped():
			suspended(p, ws.StopSignal())
		case !p.known:
			p.reaped(pid, ws)
		}
	}
}

// strangers are the last few children that have ended and were not announced before. Most are helpers, which are never
// announced. But a stranger may be a candidate whose announcement arrives later.
type strangers []stranger

type stranger struct {
	pid    int
	status unix.WaitStatus
}

const mostStrangers = 16

func (all *strangers) add(pid int, ws unix.WaitStatus) {
	if ws.Stopped() {
		return
	}
	if len(*all) == mostStrangers {
		*all = slices.Delete(*all, 0, 1)
	}
	*all = append(*all, stranger{pid, ws})
}

// take removes the newest stranger with a pid, and returns how the stranger has ended. ok is false if no stranger has the pid.
func (all *strangers) take(pid int) (ws unix.WaitStatus, ok bool) {
	i := len(*all) - 1
	for i >= 0 && (*all)[i].pid != pid {
		i--
	}
	if i < 0 {
		return 0, false
	}
	ws = (*all)[i].status
	*all = slices.Delete(*all, i, i+1)
	return ws, true
}
