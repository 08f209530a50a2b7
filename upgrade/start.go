package upgrade

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// startChild starts the program p with a control socket, and with the environment that p needs to notify the service manager.
// The open listening sockets are sent on the control socket. If p cannot receive them there, they are files at exec. If the
// service runs under the supervisor of this library, startChild announces the new process to the supervisor.
func startChild(e *estate, o *origin, opts *Options, p process.Program) (_ *child, err error) {
	if err := unmanageable(o.starter, e.manager); err != nil {
		return nil, err
	}
	e.listeners.NoteReusePort()
	files, drop, err := e.listeners.Dup()
	if err != nil {
		return nil, err
	}
	s := &passing{}
	if p.TakesSockets() {
		s, files = newPassing(files, e.listeners), nil
		s.links = e.listeners.Links(s.names)
		defer func() {
			if err != nil {
				s.close()
			}
		}()
	} else {
		defer drop()
	}
	env := opts.environ()
	var build *process.Build
	if e.manager.SupervisorState() == "dead" {
		e.log.Error("upgrade: the supervisor is dead: the new process has none, and nobody will start it again")
	}
	if e.manager.Supervised() {
		if build, err = p.Build(env); err != nil {
			return nil, err
		}
		defer build.Close()
	}
	switch { // the new process becomes a child of the service manager, which waits only for its own children
	case o.elder != nil && o.elder.PID == os.Getppid(): // the parent is an old process that drains, and not the manager
	case o.systemd:
		p = p.AsSibling(nil)
	case e.manager.Supervised():
		p = p.AsSibling(e.manager.EndOf)
	}
	c, err := process.Start(p, e.manager.Environ(env), files, func(control *os.File) error {
		err := s.next(func(k wire.Kind, body any, fds []int) error { return wire.Queue(control, k, body, fds) })
		atStep("old.queued")
		return err
	})
	if err != nil {
		return nil, err
	}
	if !s.waits {
		warnOfHolder(e.log, p, c.PID, len(files))
	}
	sock, err := wire.NewSocket(c.Control)
	if err != nil {
		_ = c.Kill()
		c.Close()
		return nil, err
	}
	l := wire.NewLinkWith(sock, e.broadcasts.Take)
	l.AllowMissing(true)
	child := &child{Child: c, link: l, passing: s}
	atStep("old.forked")
	if build != nil {
		child.channel, child.unannounced = announceChild(e.manager, c, build)
		atStep("old.announced")
	}
	return child, nil
}

// warnOfHolder logs a warning that a candidate has the listening sockets from its start, before any check of the candidate has
// passed.
func warnOfHolder(log *slog.Logger, p process.Program, pid, sockets int) {
	log.Warn("upgrade: the file does not say that its program takes the listening sockets from the control socket, so what it starts holds them from now on",
		"executable", p.Name(), "candidate", pid, "sockets", sockets, "since", time.Now())
}

// announceChild announces a started process to the supervisor. The supervisor makes a channel for the process, and
// announceChild returns the end of the channel that the process has to get.
func announceChild(manager *sdnotify.Notifier, c *process.Child, build *process.Build) (*os.File, error) {
	build.Started(c.PID)
	args, err := state.WriteBuild(build)
	if err != nil {
		return nil, fmt.Errorf("the supervisor cannot be told of the new process: %w", err)
	}
	exe, err1 := sys.DupFile(build.Exe)
	pidfd, err2 := c.PIDFD()
	if err := errors.Join(err1, sys.Explain(err2)); err != nil {
		args.Close()
		exe.Close() // does nothing if exe is nil
		pidfd.Close()
		return nil, fmt.Errorf("the supervisor cannot be told of the new process: %w", err)
	}
	channel, err := manager.Announce(sdnotify.Candidate{PID: c.PID, PIDFD: pidfd, Exe: exe, Args: args})
	if channel == nil && err == nil { // the candidate was started with the environment for a supervisor that has ended
		err = errors.New("the supervisor has ended while the new process was started: ask for the upgrade again")
	}
	return channel, err
}
