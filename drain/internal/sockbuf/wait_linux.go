package sockbuf

import (
	"net"
	"os"
	"syscall"
	"unsafe"
)

// A Waiter waits until something can be read from a socket, without reading it.
type Waiter struct {
	nc    net.Conn
	raw   syscall.RawConn
	ready func(fd uintptr) bool // the method look as a value, made once, because each new method value costs an allocation
	n     int                   // the result of Wait
	errno error                 // the error of the socket that peek has found
	first bool                  // the present Wait has not called look yet
	dry   bool                  // the last Wait found nothing to read at first: probably the next Wait finds nothing either
}

// NewWaiter makes a Waiter for a connection. It returns nil if the connection is not a socket.
func NewWaiter(nc net.Conn) *Waiter {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &Waiter{nc: nc, raw: raw}
	w.ready = w.look
	return w
}

// Wait waits until something can be read, and returns how many bytes can be read now: at least one, or 0 and no error if the
// peer has sent its last byte. A deadline or a Close ends Wait as it ends a Read.
func (w *Waiter) Wait() (int, error) {
	w.n, w.errno, w.first = 0, nil, true
	if err := w.raw.Read(w.ready); err != nil {
		return 0, err
	}
	if w.errno != nil { // the kernel reports an error only once, so a later Read would not return it
		return 0, &net.OpError{
			Op: "read", Net: w.nc.LocalAddr().Network(), Source: w.nc.LocalAddr(), Addr: w.nc.RemoteAddr(),
			Err: os.NewSyscallError("recvfrom", w.errno),
		}
	}
	return w.n, nil
}

// look reports whether a Read would return at once. It calls count. If count finds no bytes, look calls peek, because the peer
// may have closed. If dry is true, there is probably nothing to read, and the first look of a Wait begins with peek: this saves
// a call to the kernel if peek finds nothing.
func (w *Waiter) look(fd uintptr) bool {
	guess := w.first && w.dry
	if !guess && w.count(fd) {
		w.dry = w.dry && !w.first
		return true
	}
	some := w.peek(fd)
	w.first, w.dry = false, !some
	if some && guess && w.n > 0 {
		w.count(fd)
	}
	return some
}

// count sets n to the number of bytes that can be read, and reports whether there are any.
func (w *Waiter) count(fd uintptr) bool {
	var n int32
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	if e != 0 || n <= 0 {
		return false
	}
	w.n = int(n)
	return true
}

// peek reports whether there is a byte, an end or an error, and sets n and errno.
func (w *Waiter) peek(fd uintptr) bool {
	var b [1]byte
	for {
		got, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		w.n, w.errno = max(got, 0), err
		return true
	}
}
