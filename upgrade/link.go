package upgrade

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// How frames pass between two processes: who reads, who sends, and what comes along with them.

// wire moves bytes and descriptors between two processes. Its message borders do not matter.
type wire interface {
	send(b []byte, files []*os.File) error
	recv(b []byte) (n int, files []*os.File, err error)
	Close() error
}

// link is one process's end of the control socket. A goroutine reads it until the other end is gone or close is
// called, then frames is closed: to the owner that means that the peer is dead.
type link struct {
	wire   wire
	frames chan frame
	broken error // why frames was closed, if it was not the end of the peer; to be read after that

	lacking atomic.Bool // a connection may come without its descriptor: the sender still has one

	turn chan struct{} // has room for the one that sends
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
}

func newLink(w wire) *link {
	l := &link{wire: w, frames: make(chan frame, 16), turn: make(chan struct{}, 1), stop: make(chan struct{})}
	l.done.Go(l.read)
	return l
}

// allowMissing makes the link accept a connection that comes without its descriptor, for as long as the sender has one too.
func (l *link) allowMissing(on bool) { l.lacking.Store(on) }

func (l *link) read() {
	defer close(l.frames)
	var pending []byte
	var files []*os.File
	defer func() { frame{files: files}.close() }()
	buf := make([]byte, frameLimit)
	for {
		n, received, err := l.wire.recv(buf)
		files = append(files, received...)
		if err == nil && n > 0 {
			pending = append(pending, buf[:n]...)
			pending, files, err = l.deliver(pending, files)
		}
		if errors.Is(err, errFrame) {
			l.broken = err
		}
		if err != nil || n == 0 {
			return
		}
	}
}

// deliver hands on every whole frame with the descriptors that it announces. They arrive with the first byte of their
// frame, so a frame that lacks some is not one of ours, and neither are descriptors without a frame. A connection may lack
// its own if that is no loss (lacking): the kernel drops what this process has no room for.
func (l *link) deliver(pending []byte, files []*os.File) ([]byte, []*os.File, error) {
	for {
		f, rest, err := cutFrame(pending)
		if err == nil && len(pending) == 0 && len(files) > 0 {
			err = errFrame
		}
		if err != nil || rest == nil {
			return pending, files, err
		}
		pending = rest
		if f.nfiles > len(files) && !(f.kind == kindConn && len(files) == 0 && l.lacking.Load()) {
			return pending, files, errMissing
		}
		n := min(f.nfiles, len(files))
		f.files, files = files[:n:n], files[n:]
		select {
		case l.frames <- f:
		case <-l.stop:
			f.close()
			return pending, files, os.ErrClosed
		}
	}
}

func (l *link) send(k kind, body any, files ...*os.File) error {
	b, err := encodeFrame(k, body, len(files))
	if err != nil {
		return err
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.wire.send(b, files)
}

// errBusy is that a frame cannot be sent at once.
var errBusy = errors.New("the control socket is busy")

// trySend sends a frame with a descriptor, or none, if the other side has room for it. It waits for others that send.
func (l *link) trySend(k kind, body any, file *os.File, wait time.Duration) error {
	w, ok := l.wire.(interface{ trySend([]byte, *os.File) error })
	if !ok {
		return errors.ErrUnsupported
	}
	n := 0
	if file != nil {
		n = 1
	}
	b, err := encodeFrame(k, body, n)
	if err != nil {
		return err
	}
	if !l.takeTurn(wait) {
		return errBusy
	}
	defer func() { <-l.turn }()
	return w.trySend(b, file)
}

func (l *link) takeTurn(limit time.Duration) bool {
	select {
	case l.turn <- struct{}{}:
		return true
	default:
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case l.turn <- struct{}{}:
		return true
	case <-late.C:
		return false
	}
}

// dup returns another descriptor of this end, for another process. The caller closes it.
func (l *link) dup() (*os.File, error) {
	w, ok := l.wire.(interface{ dup() (*os.File, error) })
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return w.dup()
}

// quit stops reading and leaves the socket open, for another process that has it now. frames ends with what has come.
func (l *link) quit() {
	if w, ok := l.wire.(interface{ quit() }); ok {
		w.quit()
	}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.stop)
		l.wire.Close()
	})
	l.done.Wait()
	for f := range l.frames {
		f.close()
	}
}
