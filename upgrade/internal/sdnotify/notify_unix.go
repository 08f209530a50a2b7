//go:build unix

package sdnotify

import (
	"cmp"
	"net"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// write sends the message with its descriptor, which package net cannot do on a connected socket for datagrams.
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

// monotonicMicros reads systemd's clock.
func monotonicMicros() int64 { return sys.Uptime().Microseconds() }
