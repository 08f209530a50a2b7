package wire

import (
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

var _ trySender = (*socket)(nil)

// TrySend sends a frame as one message, completely or not at all. It does not wait.
func (s *socket) TrySend(b []byte, files ...*os.File) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = sendmsg(fd, b, files) })
	return errors.Join(err, sent)
}

// SendBy is TrySend, except that it waits if the socket has no room, until the deadline at most.
func (s *socket) SendBy(b []byte, file *os.File, deadline time.Time) error {
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var files []*os.File
	if file != nil {
		files = []*os.File{file}
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = sendmsg(fd, b, files)
		return sent != unix.EAGAIN
	})
	if err != nil { // the socket had no room until the deadline, or the socket is closed
		return err
	}
	return sent
}

func sendmsg(fd uintptr, b []byte, files []*os.File) error {
	defer runtime.KeepAlive(files)
	rights := sys.Rights(files)
	for {
		err := unix.Sendmsg(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}
