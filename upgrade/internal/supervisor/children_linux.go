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
// the candidate, and receives a message with the exit status.
type children struct {
	all       map[int]*proc // by their pid, or by a negative number
	nameless  int           // the last negative number
	strangers strangers
	spoken    chan *proc // the process has sent something
	deaths    chan *proc
	quit      chan struct{} // closed at the end: no death is received any more
}

func newChildren() *children {
	return &children{all: map[int]*proc{}, spoken: make(chan *proc), deaths: make(chan *proc), quit: make(chan struct{})}
}

func (c *children) close() {
	close(c.quit)
	for _, p := range c.all {
		p.close()
	}
}

// follow begins to watch a process: the messages on its channel, and its end. The process owns the handle and the channel from
// then on.
func (c *children) follow(handle *process.Handle, channel *os.File) *proc {
	p := newProc(handle, channel)
	if p.pid == 0 { // dead and reaped; its messages are still to be read
		c.nameless--
		p.key = c.nameless
	}
	c.all[p.key] = p
	go func() { // ends with the channel, with the process, or with the supervisor
		defer close(p.inbox.done)
		for p.inbox.await() {
			select {
			case c.spoken <- p:
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

// forget removes a process that has ended, and reports whether the process was still there: another process may have got the
// number.
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

// of lists the processes that a process has announced.
func (c *children) of(parent *proc) []*proc {
	return slices.DeleteFunc(c.byNumber(), func(p *proc) bool { return p.parent != parent })
}

// heirs lists the processes that may yet become the service by themselves.
func (c *children) heirs() []*proc {
	return slices.DeleteFunc(c.byNumber(), func(p *proc) bool { return !p.mayTakeOver() })
}

// orphans lists the orphans that live and were not dismissed, the newest first.
func (c *children) orphans() []*proc {
	all := slices.DeleteFunc(c.byNumber(), func(p *proc) bool { return !p.isOrphan() })
	slices.Reverse(all)
	return all
}

// nextNumber is above the numbers of all processes, and above least.
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

// reap waits for every child that has ended, also for children that other processes have left behind, and calls stopped for
// each process stopped by a signal.
func (c *children) reap(stopped func(p *proc, by syscall.Signal)) {
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
			stopped(p, ws.StopSignal())
		case !p.known:
			p.reaped(pid, ws)
		}
	}
}

// strangers are the last few children that have ended without an announcement. Most are helpers, which are never announced.
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

// take returns how a child has ended, if the child is a stranger.
func (all *strangers) take(pid int) (ws unix.WaitStatus, ok bool) {
	i := len(*all) - 1
	for i >= 0 && (*all)[i].pid != pid { // the last one of that number
		i--
	}
	if i < 0 {
		return 0, false
	}
	ws = (*all)[i].status
	*all = slices.Delete(*all, i, i+1)
	return ws, true
}
