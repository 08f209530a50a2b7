//go:build unix

package upgrade

import (
	"cmp"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// write sends the message with its descriptor. Package net does not do that on a connected socket for datagrams.
func (m note) write(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var rights []byte
	if m.file != nil {
		rights = unix.UnixRights(int(fdOf(m.file)))
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), []byte(m.text), rights, nil, 0)
		return sent != unix.EAGAIN && sent != unix.EINTR
	})
	return cmp.Or(err, sent)
}

// storable returns a descriptor of a socket that may be sent away, or nil.
func (r *socketRef) storable() *os.File {
	if r.fd < 0 || r.network == systemdNetwork {
		return nil // what a socket unit passed is kept by whoever passed it
	}
	fd, err := unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), r.addr)
}

// monotonicMicros reads the clock that systemd compares with.
func monotonicMicros() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano()).Microseconds()
}

// hasParent tells whether this process was started by an older generation.
func hasParent() bool { return os.Getenv(sentinel) != "" }
