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

// child is the process of a candidate, with the link to the process.
type child struct {
	*process.Child
	link        *wire.Link
	channel     *os.File // the candidate's end of its channel to the supervisor, which the welcome carries; nil if there is none
	unannounced error    // why the supervisor does not know the candidate
	passing     *passing // the listening sockets
}

// startChild starts the program with a control socket, with all open sockets in or beside the control socket, and with the
// environment for the service manager. It announces the process to the supervisor of this library.
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
	switch { // the new process gets the parent of this one, which waits for the service
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

// warnOfHolder logs that a candidate has the listening sockets before it was checked.
func (u *Upgrader) warnOfHolder(p process.Program, pid, sockets int) {
	u.log.Warn("upgrade: the file does not say that its program takes the listening sockets from the control socket, so what it starts holds them from now on",
		"executable", p.Name(), "candidate", pid, "sockets", sockets, "since", time.Now())
}

// announceChild announces a started process to the supervisor, and returns the end of its channel.
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
	if channel == nil && err == nil { // the environment of the candidate promises a supervisor
		err = errors.New("the supervisor has ended while the new process was started: ask for the upgrade again")
	}
	return channel, err
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
