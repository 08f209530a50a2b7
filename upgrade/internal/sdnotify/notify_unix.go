//go:build unix

package sdnotify

import (
	"cmp"
	"net"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// write sends the message with its descriptors. Package net cannot send descriptors on a connected datagram socket.
func (m note) write(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	rights := sys.Rights(m.files)
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), []byte(m.text), rights, nil, unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN && sent != unix.EINTR
	})
	return cmp.Or(err, sent)
}

// monotonicMicros returns the time of the clock that systemd uses, in microseconds.
func monotonicMicros() int64 { return sys.Uptime().Microseconds() }
