package subprocess

import (
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// switchProtocols connects the client with the process, until both have said all, or one side has closed the connection.
func (in *instance) switchProtocols(w http.ResponseWriter, r *http.Request, c *conn, up *upload, res *http.Response) {
	defer c.discard()
	if !up.overBeforeSwitch() {
		panic(http.ErrAbortHandler)
	}
	copyHeader(w.Header(), r, res)
	w.WriteHeader(http.StatusSwitchingProtocols)
	front, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer front.Close()
	c.stop() // the server ends the context when the client says no more, and the process may still have something to say
	if err := buffered.Flush(); err != nil {
		return
	}
	done := make(chan struct{})
	go func() { // ends when one of the connections is closed
		defer close(done)
		_, err := io.Copy(c.UnixConn, buffered.Reader)
		closeWrite(c.UnixConn)
		if err != nil {
			front.Close()
			c.Close()
		}
	}()
	_, _ = io.Copy(front, c.in)
	closeWrite(front)
	go func() { // ends when the process has closed the connection, or switchProtocols
		waitClosed(c.UnixConn)
		front.Close()
	}()
	<-done
}

// lastPart is how long the end of the body may take after the process has switched to another protocol.
const lastPart = time.Second

// overBeforeSwitch waits for the end of an upload, and reports whether the connection of the client may be hijacked. A handler that
// switches has read the body, so the end is near. A client that sends a longer body must not go on: two goroutines would read from its
// connection, after which net/http panics, and the host would end.
func (u *upload) overBeforeSwitch() bool {
	if u == nil || u.done == nil {
		return true
	}
	late := time.NewTimer(lastPart)
	defer late.Stop()
	select {
	case <-u.done:
		return u.err == nil
	case <-late.C:
		return false
	}
}

// closeWrite tells the other side of the end, or closes the connection if that is impossible.
func closeWrite(c io.Closer) {
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	c.Close()
}

// waitClosed returns when the other side has closed a connection in both directions. A write of nothing fails from then on, and
// the system wakes the poller.
func waitClosed(c *net.UnixConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		_, err := syscall.Write(int(fd), nil)
		return err != nil
	})
}
