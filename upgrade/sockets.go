package upgrade

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// How the listening sockets get from the old process to a candidate. The old process sends the sockets on the control socket
// before the candidate's file is executed. The sockets wait in the control socket until upgrade.New of the candidate receives
// them, even if the old process dies. A file without the mark of this library is treated in another way: its process gets the
// sockets as open files at exec, as with tableflip.

// goers has the older processes that have closed their control socket and are about to end. Until their end they may remove the
// paths of unix sockets, as many programs do after Run.
type goers struct {
	all  []goer
	tick <-chan time.Time // receives a value when putPathsBack has to be called; nil: no call is due
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
	if s.tick == nil {
		s.tick = time.After(goersEvery)
	}
}

// putPathsBack restores the paths that an ending process may have removed, and sets the time of the next call. There is no next
// call if each noted process has ended, or was noted longer than goersLimit ago. The argument main is true in the main
// generation; other generations restore nothing. A file system may hang, so the work is done in a goroutine.
func (s *goers) putPathsBack(e *estate, main bool) {
	s.tick = nil
	s.all = slices.DeleteFunc(s.all, func(g goer) bool {
		return process.HasEnded(g.pid) || time.Now().After(g.until)
	})
	switch {
	case !main && len(s.all) > 0:
		s.tick = time.After(goersEvery)
		return
	case !main: // when another process becomes the main generation, that process puts all paths back
		return
	case len(s.all) == 0:
		go e.putPathsBack() // ends when the file system answers
		return
	}
	again := make(chan time.Time, 1)
	s.tick = again
	go func() { // ends when the file system answers
		_ = e.listeners.PutBack() // the error is ignored: the last call of putPathsBack logs an error that is still there
		time.AfterFunc(goersEvery, func() { again <- time.Now() })
	}()
}

// taken is the result of takeSockets.
type taken struct {
	sockets *listener.Received
	got     int        // the number of sockets
	kept    []string   // the names under which a service manager perhaps keeps the sockets
	early   wire.Frame // welcome or abort, if it came before the last socket: another process has received the missing sockets
}

// takeSockets receives, in a candidate, the sockets that wait in the control socket. The channel late delivers a value when the
// limit has passed: then takeSockets returns an error that names the limit.
func takeSockets(parent *wire.Link, late <-chan time.Time, limit time.Duration, log *slog.Logger) (t taken, err error) {
	t.sockets = listener.NewReceived()
	for total := 0; ; {
		select {
		case <-late:
			return t, fmt.Errorf("the old process did not send its listening sockets within %v", limit)
		case f, ok := <-parent.Frames:
			switch {
			case !ok && parent.Broken != nil:
				return t, parent.Broken
			case !ok: // the old process has died, and no more sockets come
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
			if total = body.Total; total == 0 { // this process got the sockets as files at exec
				f.Close()
				return t, nil
			}
			// The service manager may keep these sockets. Later it is asked to forget the sockets that stay unopened.
			for _, n := range body.Names {
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
			// The error is ignored: if the old process is dead, the end of Frames shows the death.
			_ = parent.Send(wire.KindListeners, wire.ListenersBody{Total: t.got})
		}
	}
}

// compareSockets compares the sockets of the old process with the sockets that this candidate has opened. It returns nil, or
// else the reason why the candidate must not take over. Run calls compareSockets before serve.
func compareSockets(e *estate, o *origin, mayClose []string) error {
	e.listeners.Begin()
	if !o.replaces() {
		return nil
	}
	kind := o.born.Kind
	return comparison{
		set: e.listeners, expected: o.expects, nameless: o.old == oldTableflip, mayClose: mayClose, kind: kind, log: e.log,
		meant: o.only || kind == modeRestart.String() || kind == modeRollback.String(),
	}.result()
}

// stopTableflip ends tableflip's goroutine, unless this process has inherited sockets. In that case the goroutine goes on until
// the process ends: tableflip's Stop would remove the paths of inherited unix sockets, and other processes may serve there.
func stopTableflip(tf *tableflip.Upgrader) {
	if tf != nil && !tf.HasParent() {
		tf.Stop()
	}
}
