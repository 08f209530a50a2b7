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

// A Reader belongs to the connection from which a copy reads. The copy calls the methods of the Reader.
type Reader interface {
	// Await calls Wait of w and returns the result. It returns 0 if the copy is to end. If Await returns more than 0, nothing
	// must interrupt the connection until Read is called.
	Await(w *sockbuf.Waiter) (int, error)
	// Read is called after each Await that has returned more than 0, with the number of bytes that were read.
	Read(n int64)
}

// A Writer belongs to the connection to which a copy writes. The copy calls Wrote after each part, with the number of bytes
// that were written.
type Writer interface{ Wrote(n int64) }

// Uncounted is a Reader and a Writer for a connection whose bytes are not counted.
type Uncounted struct{}

// Await calls Wait of w.
func (Uncounted) Await(w *sockbuf.Waiter) (int, error) { return w.Wait() }

// Read does nothing.
func (Uncounted) Read(int64) {}

// Wrote does nothing.
func (Uncounted) Wrote(int64) {}

// parts is a pool of readers. Each reader limits a copy by the kernel to one part. While a reader is in the pool, its N is 0.
var parts = sync.Pool{New: func() any { return new(io.LimitedReader) }}

// filePart is how many bytes of a file the kernel copies before they are counted: as many as package net passes to a single
// call of sendfile.
const filePart = 4 << 20

// Unlimited takes the limit off r. If r is a LimitedReader, the first result is r, and the second result is the reader inside
// of r. Otherwise the first result is nil, and the second result is r.
func Unlimited(r io.Reader) (whole *io.LimitedReader, from io.Reader) {
	if l, ok := r.(*io.LimitedReader); ok {
		return l, l.R
	}
	return nil, r
}

// limit sets p.N, the length of the next part of a copy, to the value of most. If whole is not nil and whole.N is less, limit
// sets p.N to whole.N. It reports whether p.N is greater than 0.
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

// SendFile copies a [File] in parts. If whole is not nil, SendFile copies no more bytes than whole.N, and reduces whole.N.
func SendFile(to io.ReaderFrom, from io.Reader, whole *io.LimitedReader, out Writer) (total int64, err error) {
	p := parts.Get().(*io.LimitedReader)
	defer release(p)
	p.R = from
	for err == nil && p.N == 0 && limit(p, whole, filePart) { // p.N > 0 after a part means that the file has ended
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

// Splice copies the bytes of a [Socket] as they come. If whole is not nil, Splice copies no more bytes than whole.N, and
// reduces whole.N. If the system has no Waiters, or if from is not a socket, Splice copies nothing and ok is false.
//
// For each part, Splice first waits until there are bytes, and then lets package net copy them. So each part is counted as soon
// as it was copied. A drain can interrupt the wait and leave the copy alone, and an error of the wait is not mistaken for an
// error of the copy.
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
		if err != nil || n64 == 0 { // at an urgent byte the kernel splices 0 bytes, and package net takes 0 bytes as the end
			return total, true, err
		}
	}
	return total, true, nil
}
