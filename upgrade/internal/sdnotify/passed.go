package sdnotify

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

// The supervisor gives its sockets to a new process over the channel, and not as files at exec: a helper from before upgrade.New cannot
// have inherited them, and there may be more than an environment can name.
const (
	// SocketsText is how long the names in one message may be together: it fits into a socket's buffer.
	SocketsText = 48 << 10

	socketsLimit = 10 * time.Second // between two messages
)

// given is what the supervisor has sent on the channel before the process was executed.
type given struct {
	files []*os.File // the sockets that the supervisor holds, named
	early []Message  // what has come among the sockets; for the goroutine that listens
	err   error      // why not all sockets are there; nil: they are
}

// receiveSockets receives a number of sockets.
func receiveSockets(c *net.UnixConn, total int) (all []*os.File, others []Message, err error) {
	defer func() {
		if err != nil {
			for _, m := range append(others, Message{Files: all}) {
				m.Close()
			}
			all, others, err = nil, nil, fmt.Errorf("the sockets that the supervisor holds: %w", err)
		}
	}()
	buf := make([]byte, SocketsText+sys.MaxFiles*(len(WordName)+1)+len(WordSockets))
	for {
		if err := c.SetReadDeadline(time.Now().Add(socketsLimit)); err != nil {
			return all, others, err
		}
		m, err := receiveInto(c, buf, sys.MaxFiles)
		if err != nil {
			return all, others, err
		}
		if !m.Has(WordSockets) && len(others) < 16 { // about an orphan
			others = append(others, m)
			continue
		}
		some, err := m.named()
		all = append(all, some...)
		switch {
		case err != nil:
			return all, others, err
		case len(all) >= total:
			return all, others, c.SetReadDeadline(time.Time{})
		}
		if _, err := c.Write([]byte(WordReceived)); err != nil {
			return all, others, err
		}
	}
}

// named returns the sockets in a message under their names. A name never goes without a socket, nor a socket without a name.
func (m Message) named() (files []*os.File, err error) {
	defer m.Close()
	names := m.Values(WordName)
	if !m.Has(WordSockets) || len(names) == 0 {
		return nil, fmt.Errorf("a message of another kind has come: %.100q", m.Lines)
	}
	if len(m.Files) != len(names) {
		return nil, fmt.Errorf("%d of %d have come: raise the limit of open files (ulimit -n, LimitNOFILE)", len(m.Files), len(names))
	}
	for i, f := range m.Files {
		fd, err := sys.DupFD(int(sys.FD(f)))
		if err != nil {
			return files, err
		}
		f.Close() // at once: there may be many
		files = append(files, os.NewFile(uintptr(fd), names[i]))
	}
	return files, nil
}
