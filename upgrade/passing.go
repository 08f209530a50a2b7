package upgrade

import (
	"fmt"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// passing has the listening sockets that an attempt sends to its candidate.
type passing struct {
	waits bool                     // the sockets are sent on the control socket; false: they are open files at exec
	total int                      // the number of sockets that are sent in messages
	sent  int                      // the number of sockets sent so far
	names []wire.SocketName        // the names of the unsent sockets
	links []wire.PathLink          // the files of the unsent sockets, in the order of names; nil: no file is known
	rest  []int                    // duplicates of the descriptors of the unsent sockets
	late  map[wire.SocketName]bool // the sockets that this process opened during Run: the candidate may open them as late
	own   map[wire.SocketName]bool // the sockets that this library has opened: no service manager has them
}

// newPassing returns a passing for a program that takes its sockets from the control socket. The passing owns the descriptors
// in files, which are duplicates of the open sockets.
func newPassing(files []process.Inherited, set *listener.Set) *passing {
	s := &passing{waits: true, total: len(files), late: set.Late(), own: set.Own()}
	for _, f := range files {
		s.names = append(s.names, wire.SocketName{Kind: f.Name[0], Network: f.Name[1], Addr: f.Name[2]})
		s.rest = append(s.rest, int(f.FD))
	}
	return s
}

// next sends the candidate one message, with as many of the unsent sockets as fit. If the candidate gets its sockets as files
// at exec, the message has no sockets. The caller must not call next again before the candidate has received these sockets:
// descriptors in transit count against the user's limit of open files.
func (s *passing) next(send func(wire.Kind, any, []int) error) error {
	n := wire.Fit(s.names, s.links)
	body := wire.ListenersBody{Total: s.total, Names: s.names[:n]}
	if s.links != nil {
		body.Links, s.links = s.links[:n], s.links[n:]
	}
	for i, name := range body.Names {
		if s.late[name] {
			body.Late = append(body.Late, i)
		}
		if s.own[name] {
			body.Own = append(body.Own, i)
		}
	}
	fds := s.rest[:n]
	s.sent, s.names, s.rest = s.sent+n, s.names[n:], s.rest[n:]
	err := send(wire.KindListeners, body, fds)
	closeFDs(fds)
	if err != nil {
		return fmt.Errorf("pass %d of %d listening sockets on: %w", n, s.total, sys.Explain(err))
	}
	return nil
}

// close closes the duplicates of the unsent sockets.
func (s *passing) close() {
	closeFDs(s.rest)
	s.names, s.rest = nil, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		sys.CloseFD(fd)
	}
}

// counted returns nil if the candidate has received all sockets. The argument got is the number of sockets that the candidate
// has received. If this number is not the total, counted returns an error with advice.
func (s *passing) counted(got int) error {
	if got == s.total {
		return nil
	}
	return fmt.Errorf("it has %d of the %d listening sockets that were passed on: raise its limit of open files (ulimit -n, LimitNOFILE), and start nothing before upgrade.New that reads from descriptor %d",
		got, s.total, process.FirstPassed)
}
