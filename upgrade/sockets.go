package upgrade

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// How the listening sockets get from the old process to a candidate. They wait in the control socket before the candidate is
// executed, so they belong to no process until upgrade.New takes them there, and outlive the old process. A file that does not
// say that its program takes them so gets them as files at exec, as tableflip passes them.

// nameFiles names what a candidate has to know of sockets that are files at exec.
func (u *Upgrader) nameFiles(body *wire.WelcomeBody) {
	const most = 100 // with their second names, so that the welcome fits into a message; the kernel knows the others
	body.Paths, body.Stored, body.Expected = u.listeners.Paths(), u.manager.Names(), u.expected()
	body.Links = u.listeners.Links(body.Paths[:min(len(body.Paths), most)])
}

// putPathsBack puts the paths of unix sockets back that somebody has removed, and says in the log what cannot be put back.
func (u *Upgrader) putPathsBack() {
	if err := u.listeners.PutBack(); err != nil {
		u.log.Error("upgrade: a unix socket cannot be reached", "err", err)
	}
}

// goers are older processes that have closed their control socket and are about to end: many programs remove the paths of their
// sockets after Run.
type goers struct {
	all  []goer
	tick <-chan time.Time // nil if there are none
}

type goer struct {
	pid   int
	until time.Time
}

const (
	goersEvery = 20 * time.Millisecond
	goersLimit = 10 * time.Second
)

// add notes a process that is about to end.
func (s *goers) add(pid int) {
	s.all = append(s.all, goer{pid, time.Now().Add(goersLimit)})
	s.tick = time.After(goersEvery)
}

// putPathsBack puts paths back until the last process has ended that may have removed them. Only the main generation does.
func (s *goers) putPathsBack(u *Upgrader, main bool) {
	if s.tick = nil; !main {
		return
	}
	s.all = slices.DeleteFunc(s.all, func(g goer) bool {
		return process.HasEnded(g.pid) || time.Now().After(g.until)
	})
	if len(s.all) == 0 {
		u.putPathsBack()
		return
	}
	_ = u.listeners.PutBack() // an error that stays is logged above
	s.tick = time.After(goersEvery)
}

// passing is what the old process passes to one candidate.
type passing struct {
	waits bool // in the control socket; otherwise the candidate has all of it from its start
	total int  // by messages
	sent  int
	names []wire.SocketName        // of what is still to be sent
	links []wire.PathLink          // the same, or nil
	rest  []int                    // the same: duplicates
	late  []wire.SocketName        // which of the names the candidate may open later
	own   map[wire.SocketName]bool // which of them no service manager has
}

// newPassing takes duplicates of the open sockets over, for a program that takes them from the control socket.
func newPassing(files []process.Inherited, set *listener.Set) *passing {
	s := &passing{waits: true, total: len(files), late: set.Late(), own: set.Own()}
	for _, f := range files {
		s.names = append(s.names, wire.SocketName{Kind: f.Name[0], Network: f.Name[1], Addr: f.Name[2]})
		s.rest = append(s.rest, int(f.FD))
	}
	return s
}

// next sends one message, with as many sockets as it can carry: none, if they are files at exec. It is not sent before the one
// before was taken: descriptors that are on their way count against the user's limit of open files.
func (s *passing) next(send func(wire.Kind, any, ...*os.File) error) error {
	n := wire.Fit(s.names, s.links)
	body := wire.ListenersBody{Total: s.total, Names: s.names[:n]}
	if s.links != nil {
		body.Links, s.links = s.links[:n], s.links[n:]
	}
	files := make([]*os.File, n)
	for i, fd := range s.rest[:n] {
		if slices.Contains(s.late, s.names[i]) {
			body.Late = append(body.Late, i)
		}
		if s.own[s.names[i]] {
			body.Own = append(body.Own, i)
		}
		files[i] = os.NewFile(uintptr(fd), s.names[i].Addr)
	}
	s.sent, s.names, s.rest = s.sent+n, s.names[n:], s.rest[n:]
	err := send(wire.KindListeners, body, files...)
	wire.Frame{Files: files}.Close()
	if err != nil {
		return fmt.Errorf("pass %d of %d listening sockets on: %w", n, s.total, sys.Explain(err))
	}
	return nil
}

// close closes what was not sent.
func (s *passing) close() {
	for _, fd := range s.rest {
		sys.CloseFD(fd)
	}
	s.names, s.rest = nil, nil
}

// counted returns why a candidate that says how many sockets it has does not have all.
func (s *passing) counted(got int) error {
	if got == s.total {
		return nil
	}
	return fmt.Errorf("it has %d of the %d listening sockets that were passed on: raise its limit of open files (ulimit -n, LimitNOFILE), and start nothing before upgrade.New that reads from descriptor %d",
		got, s.total, process.FirstPassed)
}

// taken is what a candidate has found in its control socket.
type taken struct {
	sockets *listener.Received
	got     int        // how many sockets that is
	kept    []string   // the names under which a service manager may keep them
	early   wire.Frame // the old process's answer to hello, if that came first: somebody else has read what should have come before
}

// takeSockets takes what waits in the control socket, on the candidate's side.
func takeSockets(parent *wire.Link, timeout time.Duration, log *slog.Logger) (t taken, err error) {
	t.sockets = listener.NewReceived()
	late := time.NewTimer(timeout)
	defer late.Stop()
	for total := 0; ; {
		select {
		case <-late.C:
			return t, fmt.Errorf("the old process did not send its listening sockets within %v", timeout)
		case f, ok := <-parent.Frames:
			switch {
			case !ok && parent.Broken != nil:
				return t, parent.Broken
			case !ok: // the old process has died: what there is has to do
				if t.got < total {
					log.Warn("upgrade: the old process has died before all of its listening sockets had come", "came", t.got, "of", total)
				}
				return t, nil
			case f.Kind == wire.KindWelcome || f.Kind == wire.KindAbort:
				t.early = f
				return t, nil
			case f.Kind != wire.KindListeners:
				f.Close()
				continue
			}
			var body wire.ListenersBody
			if err := f.Decode(&body); err != nil {
				f.Close()
				return t, err
			}
			if total = body.Total; total == 0 { // they are files at exec
				f.Close()
				return t, nil
			}
			for _, n := range body.Names { // a service manager may keep them; it forgets those that this version does not open
				if name := sdnotify.StoreName(n.Kind, n.Network, n.Addr); name != "" {
					t.kept = append(t.kept, name)
				}
			}
			t.sockets.NoteLinks(body.Names, body.Links)
			t.sockets.Add(body.Names, f.Files)
			t.sockets.MarkLate(body.LateNames())
			t.sockets.MarkOwn(body.OwnNames())
			short := len(f.Files) < len(body.Names)
			if t.got = t.sockets.Len(); t.got >= total || short || len(body.Names) == 0 {
				return t, nil
			}
			atStep("new.took")
			_ = parent.Send(wire.KindListeners, wire.ListenersBody{Total: t.got}) // a dead old process is heard of next
		}
	}
}

// mostExpected is how many names the welcome has room for beside what else it holds. Further ones are not compared.
const mostExpected = 100

// expected names the sockets that a candidate has to open, for the welcome: those that are files at exec.
func (u *Upgrader) expected() []wire.SocketName {
	names := u.listeners.Early()
	return names[:min(len(names), mostExpected)]
}

// compareSockets finds out what a candidate has not opened, and what is new. It is called before serve is.
func (u *Upgrader) compareSockets() {
	u.listeners.Begin()
	if u.parent == nil && !u.plainParent {
		return
	}
	kind := u.born.Kind
	u.forgotten = comparison{
		set: u.listeners, expected: u.expects, nameless: u.plainParent, mayClose: u.opts.MayClose, kind: kind, log: u.log,
		meant: u.only || kind == modeRestart.String() || kind == modeRollback.String(),
	}.result()
}

// stopTableflip ends tableflip's goroutine. In a process that inherited sockets it goes on until the process ends: Stop
// would remove the paths of inherited unix sockets, and others may serve on those by now.
func (u *Upgrader) stopTableflip() {
	if u.tf != nil && !u.tf.HasParent() {
		u.tf.Stop()
	}
}
