package subprocess

import (
	"io"
	"net"
	"net/http"
	"syscall"
)

// switchProtocols connects the client with the process, until both have said all, or one side has closed the connection.
func (in *instance) switchProtocols(w http.ResponseWriter, r *http.Request, c *conn, res *http.Response) {
	defer c.discard()
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

// closeWrite tells the other side of the end, or closes the connection if that is impossible.
func closeWrite(c io.Closer) {
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	c.Close()
}

// waitClosed returns when the other side has closed a connection in both directions. A write of nothing fails from then on, and the
// system wakes the poller.
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
