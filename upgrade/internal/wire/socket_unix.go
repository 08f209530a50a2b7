//go:build unix

package wire

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// sendLimit is how long sending a frame may wait for a peer that does not read. Frames fit into the socket's buffer, so the
// limit only matters if the peer does not read any more.
const sendLimit = 2 * time.Second

// socket is the control socket as a Transport.
type socket struct {
	conn *net.UnixConn
	oob  []byte // buffer of Recv for descriptors
}

// NewSocket makes a Transport of the socket in file, and closes file.
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
	return &socket{uc, make([]byte, unix.CmsgSpace(sys.MaxFiles*4))}, nil
}

func (s *socket) Send(b []byte, files []*os.File) error {
	defer runtime.KeepAlive(files)
	return s.send(b, sys.Rights(files))
}

func (s *socket) SendFDs(b []byte, fds []int) error { return s.send(b, rightsOf(fds)) }

func (s *socket) send(b, rights []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	n, _, err := s.conn.WriteMsgUnix(b, rights, nil)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite // the receiver cannot tell any more where a message begins
	}
	return err
}

func (s *socket) Recv(b []byte) (int, []*os.File, error) {
	oob := s.oob
	n, oobn, err := sys.ReadMsg(s.conn, b, oob)
	if err != nil {
		files, _ := sys.ReceivedFiles(oob[:oobn]) // also after io.EOF: a message without bytes may have descriptors
		(&Frame{Files: files}).Close()
		return 0, nil, err
	}
	files, err := sys.ReceivedFiles(oob[:oobn])
	return n, files, err
}

// Queue sends a message on the control socket at once and completely, or not at all. It is for a peer that does not run yet.
// The caller closes the descriptors and control.
func Queue(control *os.File, k Kind, body any, fds []int) error {
	b, err := Encode(k, body, len(fds))
	if err != nil {
		return err
	}
	answering(b)
	rights := rightsOf(fds)
	for {
		n, err := unix.SendmsgN(int(sys.FD(control)), b, rights, nil, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
		case err == nil && n < len(b):
			return io.ErrShortWrite
		case err != nil:
			return os.NewSyscallError("sendmsg", err)
		default:
			return nil
		}
	}
}

// rightsOf returns the control message by which descriptors are sent; nil if there are none.
func rightsOf(fds []int) []byte {
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

// Quit ends a call of Recv. Other processes that have the socket can still receive.
func (s *socket) Quit() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

// Dup returns a duplicate of this end's descriptor, for another process.
func (s *socket) Dup() (*os.File, error) {
	fd, _, err := sys.Duplicate(s.conn)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "control"), nil
}

func (s *socket) Close() error { return s.conn.Close() }
