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
	ready func(fd uintptr) bool // made once, since each closure is an allocation
	n     int
	errno error
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

// Wait returns how many bytes can be read now, at least one; 0 and no error at the end of what the peer sends. Deadlines and
// a Close end Wait as they end a Read.
func (w *Waiter) Wait() (int, error) {
	w.n, w.errno = 0, nil
	if err := w.raw.Read(w.ready); err != nil {
		return 0, err
	}
	if w.errno != nil { // asked once, the kernel forgets it
		return 0, &net.OpError{
			Op: "read", Net: w.nc.LocalAddr().Network(), Source: w.nc.LocalAddr(), Addr: w.nc.RemoteAddr(),
			Err: os.NewSyscallError("recvfrom", w.errno),
		}
	}
	return w.n, nil
}

// look reports whether a Read would return at once. No bytes may mean the end, so then a byte is peeked at.
func (w *Waiter) look(fd uintptr) bool {
	var n int32
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n))); e == 0 && n > 0 {
		w.n = int(n)
		return true
	}
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
