package netconn

import (
	"io"
	"net"
	"runtime"
	"sync"

	"github.com/midair-go/midair/drain/internal/sockbuf"
)

// Splices reports whether package net splices sockets on this system.
const Splices = runtime.GOOS == "linux"

// A Reader is the account of the connection that a copy reads from.
type Reader interface {
	// Await calls Wait of the Waiter. It may return 0 to end the copy. After another number nothing may interrupt the
	// connection until Read is called.
	Await(w *sockbuf.Waiter) (int, error)
	// Read is told how many bytes were read after Await.
	Read(n int64)
}

// A Writer is the account of the connection that a copy writes to. Wrote is told how many bytes were written, part by
// part.
type Writer interface{ Wrote(n int64) }

// Uncounted is a Reader and a Writer for a connection whose bytes are not counted.
type Uncounted struct{}

// Await waits.
func (Uncounted) Await(w *sockbuf.Waiter) (int, error) { return w.Wait() }

// Read does nothing.
func (Uncounted) Read(int64) {}

// Wrote does nothing.
func (Uncounted) Wrote(int64) {}

// parts limit a copy by the kernel to a part. In the pool the field N of each is 0.
var parts = sync.Pool{New: func() any { return new(io.LimitedReader) }}

// filePart is how much of a file the kernel copies before it is counted: as much as package net gives one sendfile.
const filePart = 4 << 20

// Unlimited looks into a LimitedReader. The whole is nil if r is no LimitedReader.
func Unlimited(r io.Reader) (whole *io.LimitedReader, from io.Reader) {
	if l, ok := r.(*io.LimitedReader); ok {
		return l, l.R
	}
	return nil, r
}

// limit sets what the next step of a copy takes at most, and reports whether there is a next step.
func limit(p, whole *io.LimitedReader, most int64) bool {
	p.N = most
	if whole != nil {
		p.N = min(most, whole.N)
	}
	return p.N > 0
}

func release(p *io.LimitedReader) {
	p.R, p.N = nil, 0
	parts.Put(p)
}

// SendFile copies a [File] in parts, at most the whole.
func SendFile(to io.ReaderFrom, from io.Reader, whole *io.LimitedReader, out Writer) (total int64, err error) {
	p := parts.Get().(*io.LimitedReader)
	defer release(p)
	p.R = from
	for err == nil && p.N == 0 && limit(p, whole, filePart) { // what is left of a part is the end of the file
		var n int64
		n, err = to.ReadFrom(p)
		out.Wrote(n)
		total += n
		if whole != nil {
			whole.N -= n
		}
	}
	return total, err
}

// Splice copies the bytes of a [Socket] as they come, at most the whole. Splice waits for each part, and package net
// copies the part. So each part is counted when it has passed, and a wait that a drain interrupts differs from a
// failure of the other side. Splice returns ok == false and has copied nothing where the system cannot say how many
// bytes a socket has.
func Splice(to io.ReaderFrom, out Writer, from io.Reader, in Reader, whole *io.LimitedReader) (total int64, ok bool, err error) {
	nc, is := from.(net.Conn)
	if !is {
		return 0, false, nil
	}
	w := sockbuf.NewWaiter(nc)
	if w == nil {
		return 0, false, nil
	}
	p := parts.Get().(*io.LimitedReader)
	defer release(p)
	p.R = from
	for limit(p, whole, 1) {
		n, err := in.Await(w)
		if err != nil || n == 0 {
			return total, true, err
		}
		limit(p, whole, int64(n))
		n64, err := to.ReadFrom(p)
		in.Read(n64)
		out.Wrote(n64)
		total += n64
		if whole != nil {
			whole.N -= n64
		}
		if err != nil || n64 == 0 { // the kernel splices nothing at the mark of an urgent byte; package net takes that as the end
			return total, true, err
		}
	}
	return total, true, nil
}
