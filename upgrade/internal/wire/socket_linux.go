package wire

import (
	"errors"
	"os"
	"runtime"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// TrySend sends a frame as one message, which is whole or not at all.
func (s *socket) TrySend(b []byte, file *os.File) error {
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(sys.FD(file)))
		defer runtime.KeepAlive(file)
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = unix.Sendmsg(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) })
	return errors.Join(err, sent)
}
