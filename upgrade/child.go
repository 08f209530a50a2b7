package upgrade

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// child is a process that was started as a candidate, with the link to it.
type child struct {
	*process.Child
	link        *wire.Link
	channel     *os.File // the candidate's end of its channel to the supervisor, which the welcome carries; nil if there is none
	unannounced error    // why the supervisor does not know the candidate
	passing     *passing // the listening sockets
}

// startChild starts the program with a control socket, in which or beside which are all open sockets, and with what it needs to
// find the service manager. Our own supervisor is told of it.
func (u *Upgrader) startChild(p process.Program) (_ *child, err error) {
	if err := u.unmanageable(); err != nil {
		return nil, err
	}
	u.listeners.NoteReusePort()
	files, drop, err := u.listeners.Dup()
	if err != nil {
		return nil, err
	}
	s := &passing{}
	if p.TakesSockets() {
		s, files = newPassing(files, u.listeners), nil
		s.links = u.listeners.Links(s.names)
		defer func() {
			if err != nil {
				s.close()
			}
		}()
	} else {
		defer drop()
	}
	env := u.opts.environ()
	var build *process.Build
	if u.manager.SupervisorState() == "dead" {
		u.log.Error("upgrade: the supervisor is dead: the new process has none, and nobody will start it again")
	}
	if u.manager.Supervised() {
		if build, err = p.Build(env); err != nil {
			return nil, err
		}
		defer build.Close()
	}
	switch { // the new process is a child of who waits for this one
	case u.elder != nil && u.elder.PID == os.Getppid(): // of an older build, which waits for its own children only
	case u.systemd:
		p = p.AsSibling(nil)
	case u.manager.Supervised():
		p = p.AsSibling(u.manager.EndOf)
	}
	c, err := process.Start(p, u.manager.Environ(env), files, func(control *os.File) error {
		err := s.next(func(k wire.Kind, body any, files ...*os.File) error { return wire.Queue(control, k, body, files...) })
		atStep("old.queued")
		return err
	})
	if err != nil {
		return nil, err
	}
	if !s.waits {
		u.warnOfHolder(p, c.PID, len(files))
	}
	sock, err := wire.NewSocket(c.Control)
	if err != nil {
		_ = c.Kill()
		c.Close()
		return nil, err
	}
	l := wire.NewLink(sock)
	l.AllowMissing(true)
	child := &child{Child: c, link: l, passing: s}
	atStep("old.forked")
	if build != nil {
		child.channel, child.unannounced = u.announceChild(c, build)
		atStep("old.announced")
	}
	return child, nil
}

// warnOfHolder says that a candidate holds the listening sockets although nobody has looked at it yet.
func (u *Upgrader) warnOfHolder(p process.Program, pid, sockets int) {
	u.log.Warn("upgrade: the file does not say that its program takes the listening sockets from the control socket, so what it starts holds them from now on",
		"executable", p.Name(), "candidate", pid, "sockets", sockets, "since", time.Now())
}

// announceChild tells the supervisor of a started process, and returns the end of its channel.
func (u *Upgrader) announceChild(c *process.Child, build *process.Build) (*os.File, error) {
	build.Started(c.PID)
	args, err := state.WriteBuild(build)
	if err != nil {
		return nil, fmt.Errorf("the supervisor cannot be told of the new process: %w", err)
	}
	exe, err1 := sys.DupFile(build.Exe)
	pidfd, err2 := c.PIDFD()
	if err := errors.Join(err1, sys.Explain(err2)); err != nil {
		args.Close()
		exe.Close() // which does nothing without a file
		pidfd.Close()
		return nil, fmt.Errorf("the supervisor cannot be told of the new process: %w", err)
	}
	channel, err := u.manager.Announce(sdnotify.Candidate{PID: c.PID, PIDFD: pidfd, Exe: exe, Args: args})
	if channel == nil && err == nil { // the candidate was told that there is one
		err = errors.New("the supervisor has ended while the new process was started: ask for the upgrade again")
	}
	return channel, err
}

// close ends what belongs to a child that is not wanted: at once if it has died, and otherwise when it has. The end of the
// control socket would tell it that this process has died. It is not called after a commit.
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

// died returns how the child has ended, if that was no stop. From a time on it may have been replaced, and has not died.
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

// more sends the next sockets to a child that has taken those before.
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

// tookAll notes that the child has its sockets, and needs this process for none of them.
func (c *child) tookAll() {
	c.Took()
	c.passing.close()
}
