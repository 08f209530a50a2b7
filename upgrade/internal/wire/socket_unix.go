//go:build unix

package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// sendLimit bounds how long a frame may wait for a peer that does not read. Frames fit into the socket's buffer, so it
// only matters for one that has stopped reading for good.
const sendLimit = 2 * time.Second

// socket is the control socket as a wire.
type socket struct{ conn *net.UnixConn }

// NewSocket takes over the descriptor of file and closes file.
func NewSocket(file *os.File) (Transport, error) {
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("control socket: is a %s socket, not a unix one", c.LocalAddr().Network())
	}
	return &socket{uc}, nil
}

func (s *socket) Send(b []byte, files []*os.File) error {
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(sys.FD(f))
		}
		defer runtime.KeepAlive(files)
		rights = unix.UnixRights(fds...)
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	_, _, err := s.conn.WriteMsgUnix(b, rights, nil)
	return err
}

func (s *socket) Recv(b []byte) (int, []*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(8*4))
	n, oobn, _, _, err := s.conn.ReadMsgUnix(b, oob)
	if errors.Is(err, unix.ECONNRESET) {
		// The peer has ended and had not read everything. Linux says that once, and before it hands out what the peer had
		// sent (sock_error in __skb_try_recv_datagram): its last connections, or why it has failed.
		n, oobn, _, _, err = s.conn.ReadMsgUnix(b, oob)
	}
	if err != nil {
		files, _ := sys.ReceivedFiles(oob[:oobn]) // a message without a byte looks like the end, and may carry some
		(&Frame{Files: files}).Close()
		return 0, nil, err
	}
	files, err := sys.ReceivedFiles(oob[:oobn])
	return n, files, err
}

// Quit ends a recv, this process's only.
func (s *socket) Quit() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

// Dup returns another descriptor of this end, to be passed on.
func (s *socket) Dup() (*os.File, error) {
	fd, _, err := sys.Duplicate(s.conn)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "control"), nil
}

func (s *socket) Close() error { return s.conn.Close() }
