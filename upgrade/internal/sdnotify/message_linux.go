package sdnotify

import (
	"io"
	"net"
	"strings"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// ParseMessage makes a Message of the data and the control data that recvmsg(2) has returned.
func ParseMessage(b, oob []byte) Message {
	m := Message{Lines: strings.Split(string(b), "\n")}
	m.Files, _ = sys.ReceivedFiles(oob) // if oob cannot be parsed, the message has no files
	return m
}

// receive waits for a message.
func receive(c *net.UnixConn) (Message, error) { return receiveInto(c, make([]byte, 8<<10), 8) }

func receiveInto(c *net.UnixConn, buf []byte, files int) (Message, error) {
	oob := make([]byte, unix.CmsgSpace(files*4))
	n, oobn, err := sys.ReadMsg(c, buf, oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	m := ParseMessage(buf[:n], oob[:oobn])
	if err != nil {
		m.Close()
	}
	return m, err
}

// hungUp reports whether the other end of a socket is closed, even if messages are left to be read.
func hungUp(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}
