package sdnotify

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

// The supervisor sends its sockets to a new process over the channel, and does not pass them as inherited files, for two
// reasons. A helper that the new process starts before upgrade.New could inherit such files. And the names of all sockets may
// be too long for an environment variable.

const (
	// SocketsText is how many bytes the names in one message may have together: such a message fits into a socket's buffer.
	SocketsText = 48 << 10

	socketsLimit = 10 * time.Second // how long to wait for the next message with sockets
)

// given is what the supervisor has sent over the channel at the start of the process.
type given struct {
	files []*os.File // the named sockets that the supervisor holds
	early []Message  // other messages that came between the messages with sockets; nextMessage returns them
	err   error      // why sockets are missing; nil if all have come
}

// receiveSockets receives sockets until it has as many as the argument total says. Other messages may come in between: others
// has these messages.
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
		if !m.Has(WordSockets) && len(others) < 16 { // a message about an orphan may come in between
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

// named returns the sockets in a message, as files with their names. It fails if the numbers of names and sockets differ.
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
		f.Close() // not after the loop, because there may be many files
		files = append(files, os.NewFile(uintptr(fd), names[i]))
	}
	return files, nil
}
