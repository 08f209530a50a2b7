package upgrade

import (
	"errors"
	"log/slog"
	"os"
	"strconv"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The link between an orphan (see survivor.go) and the process that the supervisor starts in its place.

// logServingAnyway logs the problem of a process that serves because there is no other process.
func logServingAnyway(log *slog.Logger, p Phase, err error) {
	log.Error("upgrade: serving although not everything is right: there is no other process to do it", "phase", p, "err", err)
}

const unsupervisedText = "upgrade: the supervisor has ended: nobody starts the service again after a crash"

// nextLink is the control socket to the process that is to replace this process. The supervisor starts that process after the
// death of the old process.
type nextLink struct{ link *wire.Link } // nil: none

// take makes a link of the socket in files, which the supervisor has sent. It closes an earlier link.
func (n *nextLink) take(files []*os.File) error {
	l, err := newLink(files)
	if err == nil {
		n.drop()
		n.link = l
	}
	return err
}

// use returns the link, which the caller then owns and has to close. It returns nil if there is no link.
func (n *nextLink) use() *wire.Link {
	l := n.link
	if l != nil {
		n.link = nil
		l.AllowMissing(true)
	}
	return l
}

// drop closes the link if use was not called.
func (n *nextLink) drop() {
	if n.link != nil {
		n.link.Close()
		n.link = nil
	}
}

// followOrphan begins to read messages of an orphan.
func (s *elders) followOrphan(m sdnotify.Message) error {
	l, err := newLink(m.Files)
	if err != nil {
		return err
	}
	e := &elder{link: l, orphan: true}
	e.Version = m.Value(sdnotify.WordVersion)
	e.PID, _ = strconv.Atoi(m.Value(sdnotify.WordPID))
	e.Generation, _ = strconv.Atoi(m.Value(sdnotify.WordGeneration))
	s.follow(e)
	return nil
}

// dismiss orders orphans to end, because this process serves in their place.
func dismiss(orphans []*elder, set *listener.Set, log *slog.Logger) {
	for _, e := range orphans {
		log.Warn("upgrade: a process that was not committed goes: its idle connections and its state come here", "pid", e.PID, "version", e.Version)
		// Errors are ignored: an orphan that has ended needs no message.
		_ = handoff.SendTakes(e.link, set)
		_ = e.link.Send(wire.KindAbort, wire.AbortBody{Reason: "the old process died before the commit, and the committed build serves"})
	}
}

// newLink makes a link of a control socket from the supervisor.
func newLink(files []*os.File) (*wire.Link, error) {
	if len(files) != 1 {
		return nil, errors.New("the supervisor has sent no control socket")
	}
	file, err := sys.DupFile(files[0])
	if err != nil {
		return nil, err
	}
	sock, err := wire.NewSocket(file) // closes the file
	if err != nil {
		return nil, err
	}
	return wire.NewLink(sock), nil
}
