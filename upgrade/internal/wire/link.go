package wire

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Transport moves bytes and descriptors between two processes. The borders of the transport's messages do not matter.
type Transport interface {
	// Send sends b with descriptors, which stay the caller's. It may wait for a peer that does not read.
	Send(b []byte, files []*os.File) error
	// Recv reads into b, and returns the descriptors that came along, which are the caller's.
	Recv(b []byte) (n int, files []*os.File, err error)
	// Close ends a Recv.
	Close() error
}

// What a Transport may be able to do besides.
type (
	trySender interface {
		// TrySend sends b and a file, if there is one, at once and whole, or not at all.
		TrySend(b []byte, file *os.File) error
		// SendBy is TrySend that waits until the peer has room, or until a moment.
		SendBy(b []byte, file *os.File, by time.Time) error
	}
	duplicator interface {
		Dup() (*os.File, error)
	}
	quitter interface {
		Quit() // ends a Recv, and leaves the socket open
	}
)

// Link is one process's end of the control socket. A goroutine reads until the other end is gone or Close is called; then
// Frames is closed, from which the owner knows the death of the peer. The methods may be called from any goroutine.
type Link struct {
	// Frames delivers what the peer says. The receiver closes each frame.
	Frames <-chan Frame
	// Broken is why Frames was closed, if it was not the end of the peer; to be read after that.
	Broken error

	wire   Transport
	frames chan Frame // Frames, for the goroutine that reads

	lacking atomic.Bool   // a connection may come without its descriptor: the sender still has one
	sent    atomic.Uint64 // a bit for each kind

	turn chan struct{} // has room for the one that sends
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
}

// NewLink begins to read. The transport becomes the link's, and Close closes the transport.
func NewLink(w Transport) *Link {
	l := &Link{wire: w, frames: make(chan Frame, 16), turn: make(chan struct{}, 1), stop: make(chan struct{})}
	l.Frames = l.frames
	l.done.Go(l.read)
	return l
}

// AllowMissing makes the link accept a connection without its descriptor, for as long as the sender has a descriptor too.
func (l *Link) AllowMissing(on bool) { l.lacking.Store(on) }

func (l *Link) read() {
	defer close(l.frames)
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

// deliver hands on every whole frame with the descriptors that the frame announces. The descriptors arrive with the first byte
// of their frame, so a frame without them is not from this library, and neither are descriptors without a frame. A connection
// may lack its own descriptor if nothing is lost by that (lacking): the kernel drops a descriptor when this process has no room
// for more. Listening sockets may be missing too: the receiver counts the sockets.
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
		mayLack := f.Kind == KindListeners || f.Kind == KindConn && len(files) == 0 && l.lacking.Load()
		if f.nfiles > len(files) && !mayLack {
			return pending, files, ErrMissing
		}
		n := min(f.nfiles, len(files))
		f.Files, files = files[:n:n], files[n:]
		select {
		case l.frames <- f:
		case <-l.stop:
			f.Close()
			return pending, files, os.ErrClosed
		}
	}
}

// Send sends a message. The files stay the caller's. Send waits for other senders, and at most two seconds for a peer that does
// not read.
func (l *Link) Send(k Kind, body any, files ...*os.File) error {
	b, err := Encode(k, body, len(files))
	if err != nil {
		return err
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.sent.Or(1 << k)
	return l.wire.Send(b, files)
}

// Sent reports whether Send was called for a message of the kind. It is true before the peer can have the message.
func (l *Link) Sent(k Kind) bool { return l.sent.Load()&(1<<k) != 0 }

// errBusy means that sending would wait too long.
var errBusy = errors.New("the control socket is busy")

// TrySend sends a message with a file, or nil, if the peer has room. TrySend waits for other senders, at most for wait. The
// file stays the caller's.
func (l *Link) TrySend(k Kind, body any, file *os.File, wait time.Duration) error {
	return l.atOnce(k, body, file, wait, func(w trySender, b []byte) error { return w.TrySend(b, file) })
}

// SendWithin sends a message with a file, or nil, as soon as the peer has room, and gives up after limit, which counts for
// other senders too. The file stays the caller's.
func (l *Link) SendWithin(k Kind, body any, file *os.File, limit time.Duration) error {
	by := time.Now().Add(limit)
	return l.atOnce(k, body, file, limit, func(w trySender, b []byte) error {
		for {
			err := w.SendBy(b, file, soonest(by, time.Now().Add(againAfter)))
			switch late := !time.Now().Before(by); {
			case errors.Is(err, os.ErrDeadlineExceeded) && !late:
			case isShortage(err) && !late && l.rest():
			default:
				return err
			}
		}
	})
}

func (l *Link) atOnce(k Kind, body any, file *os.File, wait time.Duration, send func(w trySender, b []byte) error) error {
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
	return send(w, b)
}

// isShortage reports whether an error of sending may end in a moment without an event of the poller: too many descriptors are
// on their way between processes, or there is no memory.
func isShortage(err error) bool {
	return errors.Is(err, syscall.ETOOMANYREFS) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// againAfter is how long SendWithin trusts the poller. Linux calls a unix socket writable when three quarters of the buffer are
// free (unix_writable), and a message needs much less, so the event may come long after there is room. No other event comes
// sooner.
const againAfter = 2 * time.Millisecond

func soonest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// rest lets a millisecond pass, and reports whether the link is still open.
func (l *Link) rest() bool {
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.stop:
		return false
	}
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

// Dup returns another descriptor of this end, for another process. The caller closes the file.
func (l *Link) Dup() (*os.File, error) {
	w, ok := l.wire.(duplicator)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return w.Dup()
}

// Quit stops reading and leaves the socket open, for another process with a descriptor of the same end. Frames ends after the
// received frames.
func (l *Link) Quit() {
	if w, ok := l.wire.(quitter); ok {
		w.Quit()
	}
}

// Close closes the socket, waits for the goroutine that reads, and closes the frames left in Frames. Close may be called twice.
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

// Gone reports whether an error of Send, TrySend or SendWithin means the death of the peer.
func Gone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
