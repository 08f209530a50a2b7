package wire

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How frames pass between two processes: who reads, who sends, and what comes along with them.

// Transport moves bytes and descriptors between two processes. Its message borders do not matter.
type Transport interface {
	Send(b []byte, files []*os.File) error
	Recv(b []byte) (n int, files []*os.File, err error)
	Close() error
}

// What a wire may be able to do besides.
type (
	trySender interface {
		TrySend(b []byte, file *os.File) error // without waiting; the file is nil if there is none
	}
	duplicator interface {
		Dup() (*os.File, error)
	}
	quitter interface {
		Quit() // ends recv
	}
)

// Link is one process's end of the control socket. A goroutine reads it until the other end is gone or close is
// called, then frames is closed: to the owner that means that the peer is dead.
type Link struct {
	wire   Transport
	Frames chan Frame
	Broken error // why frames was closed, if it was not the end of the peer; to be read after that

	lacking atomic.Bool // a connection may come without its descriptor: the sender still has one

	turn chan struct{} // has room for the one that sends
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
}

func NewLink(w Transport) *Link {
	l := &Link{wire: w, Frames: make(chan Frame, 16), turn: make(chan struct{}, 1), stop: make(chan struct{})}
	l.done.Go(l.read)
	return l
}

// AllowMissing makes the link accept a connection that comes without its descriptor, for as long as the sender has one too.
func (l *Link) AllowMissing(on bool) { l.lacking.Store(on) }

func (l *Link) read() {
	defer close(l.Frames)
	var pending []byte
	var files []*os.File
	defer func() { Frame{Files: files}.Close() }()
	buf := make([]byte, frameLimit)
	for {
		n, received, err := l.wire.Recv(buf)
		files = append(files, received...)
		if err == nil && n > 0 {
			pending = append(pending, buf[:n]...)
			pending, files, err = l.deliver(pending, files)
		}
		if errors.Is(err, ErrFrame) {
			l.Broken = err
		}
		if err != nil || n == 0 {
			return
		}
	}
}

// deliver hands on every whole frame with the descriptors that it announces. They arrive with the first byte of their
// frame, so a frame that lacks some is not one of ours, and neither are descriptors without a frame. A connection may lack
// its own if that is no loss (lacking): the kernel drops what this process has no room for.
func (l *Link) deliver(pending []byte, files []*os.File) ([]byte, []*os.File, error) {
	for {
		f, rest, err := cutFrame(pending)
		if err == nil && len(pending) == 0 && len(files) > 0 {
			err = ErrFrame
		}
		if err != nil || rest == nil {
			return pending, files, err
		}
		pending = rest
		if f.nfiles > len(files) && !(f.Kind == KindConn && len(files) == 0 && l.lacking.Load()) {
			return pending, files, ErrMissing
		}
		n := min(f.nfiles, len(files))
		f.Files, files = files[:n:n], files[n:]
		select {
		case l.Frames <- f:
		case <-l.stop:
			f.Close()
			return pending, files, os.ErrClosed
		}
	}
}

func (l *Link) Send(k Kind, body any, files ...*os.File) error {
	b, err := Encode(k, body, len(files))
	if err != nil {
		return err
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.wire.Send(b, files)
}

// errBusy is that a frame cannot be sent at once.
var errBusy = errors.New("the control socket is busy")

// TrySend sends a frame with a descriptor, or none, if the other side has room for it. It waits for others that send.
func (l *Link) TrySend(k Kind, body any, file *os.File, wait time.Duration) error {
	w, ok := l.wire.(trySender)
	if !ok {
		return errors.ErrUnsupported
	}
	n := 0
	if file != nil {
		n = 1
	}
	b, err := Encode(k, body, n)
	if err != nil {
		return err
	}
	if !l.takeTurn(wait) {
		return errBusy
	}
	defer func() { <-l.turn }()
	return w.TrySend(b, file)
}

func (l *Link) takeTurn(limit time.Duration) bool {
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

// Dup returns another descriptor of this end, for another process. The caller closes it.
func (l *Link) Dup() (*os.File, error) {
	w, ok := l.wire.(duplicator)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return w.Dup()
}

// Quit stops reading and leaves the socket open, for another process that has it now. frames ends with what has come.
func (l *Link) Quit() {
	if w, ok := l.wire.(quitter); ok {
		w.Quit()
	}
}

func (l *Link) Close() {
	l.once.Do(func() {
		close(l.stop)
		l.wire.Close()
	})
	l.done.Wait()
	for f := range l.Frames {
		f.Close()
	}
}

// Gone tells whether an error of the control socket means that the peer is dead.
func Gone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
