//go:build unix

package sys

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Rights returns the control message by which files are sent; nil if there are no files. The files have to stay open until the
// message is sent.
func Rights(files []*os.File) []byte {
	if len(files) == 0 {
		return nil
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(FD(f))
	}
	return unix.UnixRights(fds...)
}

// ReceivedFiles returns the files that were received with a control message. Other control data is ignored.
func ReceivedFiles(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // no descriptors, but credentials, for example
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// ReadMsg reads from a socket of SocketPair. At the end of the peer it reads again, because a last message may have a connection,
// or the reason why the peer has failed, and Linux may report the end once or twice before this message. It returns ECONNRESET
// once if the peer has not read all messages (sock_error in __skb_try_recv_datagram). And it returns the end of a SOCK_SEQPACKET
// socket if the peer sends and closes between two steps of the receiver, which finds an empty queue first and then a closed
// socket (__unix_dgram_recvmsg).
func ReadMsg(c *net.UnixConn, b, oob []byte) (n, oobn int, err error) {
	for range 3 {
		n, oobn, _, _, err = c.ReadMsgUnix(b, oob)
		n = max(n, 0) // package net returns -1 with an error
		if n > 0 || oobn > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			break
		}
	}
	return n, oobn, err
}

func empty(socket *os.File) {
	buf, oob := make([]byte, 4<<10), make([]byte, unix.CmsgSpace(MaxFiles*4))
	for {
		// While this goroutine holds the lock, no other goroutine can start a process. So no process inherits the received
		// descriptors before they are close-on-exec.
		syscall.ForkLock.RLock()
		n, oobn, _, _, err := unix.Recvmsg(int(FD(socket)), buf, oob, unix.MSG_DONTWAIT)
		var files []*os.File
		if err == nil {
			files, _ = ReceivedFiles(oob[:oobn])
		}
		syscall.ForkLock.RUnlock()
		for _, f := range files {
			f.Close()
		}
		if err != unix.EINTR && (err != nil || n == 0) {
			return
		}
	}
}

func explain(err error) error {
	text := adviceFor(err)
	if text == "" || errors.As(err, new(*advised)) {
		return err
	}
	return &advised{err, text}
}

// advised is an error with advice: explain adds no second advice to such an error.
type advised struct {
	error
	text string
}

func (e *advised) Error() string { return e.error.Error() + ": " + e.text }
func (e *advised) Unwrap() error { return e.error }

func adviceFor(err error) string {
	switch {
	case errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.EIO):
		return fmt.Sprintf("is the file a complete program for %s/%s?", runtime.GOOS, runtime.GOARCH)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "raise the limit of open files (ulimit -n, LimitNOFILE)"
	case errors.Is(err, unix.ETOOMANYREFS):
		return "raise the limit of open files (ulimit -n, LimitNOFILE): too many descriptors of this user are on their way between processes"
	case errors.Is(err, unix.ENOMEM):
		return "raise the limit of memory (MemoryMax, memory.max, vm.overcommit_memory), or free some"
	case errors.Is(err, unix.ETXTBSY):
		return "the file is still being written; write a new one and rename it"
	}
	return ""
}

func uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func shutdownFD(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }

func closeOnExec(fd int) { unix.CloseOnExec(fd) }

func closeFD(fd int) { _ = unix.Close(fd) }

func duplicate(c syscall.Conn) (fd int, inode uint64, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, 0, err
	}
	var dupErr error
	err = raw.Control(func(n uintptr) {
		fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(err, dupErr); err != nil {
		return -1, 0, explain(fmt.Errorf("duplicate: %w", err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil {
		inode = uint64(st.Ino)
	}
	return fd, inode, nil
}

func dupFD(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	return n, explain(err)
}
