package wire

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Transport moves bytes and descriptors between two processes. Recv may return a part of a frame, or several frames. The Link
// finds where a frame ends.
type Transport interface {
	// Send sends b with descriptors, and does not close the files. It may wait for a peer that does not read.
	Send(b []byte, files []*os.File) error
	// Recv reads into b, and returns the descriptors that came with these bytes. The caller closes the files.
	Recv(b []byte) (n int, files []*os.File, err error)
	// Close closes the transport, and ends a call of Recv.
	Close() error
}

// Optional methods of a Transport.
type (
	trySender interface {
		// TrySend sends b with the files at once and completely, or not at all.
		TrySend(b []byte, files ...*os.File) error
		// SendBy is TrySend, except that it waits if the peer has no room, until the deadline at most.
		SendBy(b []byte, file *os.File, deadline time.Time) error
	}
	fdSender interface {
		// SendFDs is Send for descriptors that no os.File owns.
		SendFDs(b []byte, fds []int) error
	}
	duplicator interface {
		Dup() (*os.File, error)
	}
	quitter interface {
		Quit() // ends a call of Recv, and leaves the socket open
	}
)

// Link is one process's end of the control socket. A goroutine receives frames. It ends when the other end is closed, when the
// receiving fails, or after a call of Quit or Close. At its end the goroutine closes Frames. So the owner of the link notices
// the death of the peer. The methods may be called from any goroutine.
type Link struct {
	// Frames delivers the messages of the peer. The receiver closes each frame.
	Frames <-chan Frame
	// Broken is an ErrFrame if the link has ended because of the bytes or descriptors that the peer has sent. Otherwise Broken
	// is nil, for example after the end of the peer. It must be read only after Frames was closed.
	Broken error

	wire   Transport
	frames chan Frame       // the same channel as Frames, for sending
	take   func(Frame) bool // see NewLinkWith; nil: Frames delivers every message

	lacking atomic.Bool   // a frame of KindConn may come without its descriptor, see AllowMissing
	sent    atomic.Uint64 // a bit for each kind for which Send was called
	batches batches       // the messages of KindConns that the peer has not answered

	turn chan struct{} // locks sending: a goroutine puts an element in before it sends, and takes it out afterwards
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
}

// NewLink makes a link, which receives from now on. The link owns w: Close of the link closes w.
func NewLink(w Transport) *Link { return NewLinkWith(w, nil) }

// NewLinkWith is NewLink for a receiver that gets some messages at once, in the goroutine that receives. The function take is
// called with each message. If take returns true, it has closed the message, and Frames does not deliver the message. take must
// not wait.
func NewLinkWith(w Transport, take func(Frame) bool) *Link {
	l := &Link{wire: w, take: take, frames: make(chan Frame, 16), turn: make(chan struct{}, 1), stop: make(chan struct{})}
	l.Frames = l.frames
	l.done.Go(l.read)
	return l
}

// AllowMissing sets whether a frame of KindConn may come without its descriptor. The argument may be true only while the sender
// keeps a descriptor of the connection too, so that no connection is lost.
func (l *Link) AllowMissing(allow bool) { l.lacking.Store(allow) }

func (l *Link) read() {
	defer close(l.frames)
	defer l.batches.end()
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

// deliver sends each complete frame to Frames, with its descriptors, and returns the bytes and descriptors that are left.
// Descriptors arrive with the first byte of their frame. If descriptors come without a frame, deliver returns ErrFrame. If
// descriptors of a frame are missing, deliver usually returns ErrMissing. There are four exceptions. A frame of KindConn may
// lack its descriptor while lacking is set, because the sender keeps a descriptor too. A frame of KindListeners may lack
// descriptors, because its receiver counts the sockets. A frame of KindIntroduce may lack its broadcast socket, because a
// generation serves without it. A frame of KindConns may lack descriptors, because the answer counts them. Descriptors are missing if this process has too many open files: then the kernel drops them.
//
// A frame of KindConns is answered and delivered as frames of KindConn (see conns.go). A frame of KindTook is not delivered.
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
		l.batches.heard(f.answers)
		mayLack := f.Kind == KindListeners || f.Kind == KindIntroduce || f.Kind == KindConns ||
			f.Kind == KindConn && len(files) == 0 && l.lacking.Load()
		if f.nfiles > len(files) && !mayLack {
			return pending, files, ErrMissing
		}
		n := min(f.nfiles, len(files))
		f.Files, files = files[:n:n], files[n:]
		switch f.Kind {
		case KindConns:
			err = l.takeConns(f)
		case KindTook:
			err = l.batches.took(f)
		default:
			err = l.pass(f)
		}
		if err != nil {
			return pending, files, err
		}
	}
}

// pass delivers a frame to the receiver.
func (l *Link) pass(f Frame) error {
	if l.take != nil && l.take(f) {
		return nil
	}
	select {
	case l.frames <- f:
		return nil
	case <-l.stop:
		f.Close()
		return os.ErrClosed
	}
}

// Send sends a message. The caller closes the files. Send waits for other senders, and at most two seconds for a peer that does
// not read.
func (l *Link) Send(k Kind, body any, files ...*os.File) error {
	return l.SendIf(func() error { return nil }, k, body, files...)
}

// SendIf is Send, but calls the function allowed when the wait for other senders is over. If allowed returns an error, SendIf
// returns this error and sends nothing. Messages that another goroutine begins to send after the call of allowed come later.
func (l *Link) SendIf(allowed func() error, k Kind, body any, files ...*os.File) error {
	b, err := Encode(k, body, len(files))
	if err != nil {
		return err
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if err := allowed(); err != nil {
		return err
	}
	l.sent.Or(1 << k)
	return l.wire.Send(answering(b), files)
}

// SendFDs is Send for descriptors that no os.File owns. It does not close the descriptors. To make a file of the descriptor of a
// socket would cost more than to send the descriptor.
func (l *Link) SendFDs(k Kind, body any, fds []int) error {
	w, ok := l.wire.(fdSender)
	if !ok {
		return errors.ErrUnsupported
	}
	b, err := Encode(k, body, len(fds))
	if err != nil {
		return err
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.sent.Or(1 << k)
	return w.SendFDs(answering(b), fds)
}

// Sent reports whether Send was called for a message of the kind. The result is already true when the peer receives the
// message.
func (l *Link) Sent(k Kind) bool { return l.sent.Load()&(1<<k) != 0 }

// errBusy means that sending would wait too long.
var errBusy = errors.New("the control socket is busy")

// TrySend sends a message if the peer has room. file may be nil. TrySend waits for other senders, but not longer than limit.
// The caller closes the file.
func (l *Link) TrySend(k Kind, body any, file *os.File, limit time.Duration) error {
	return l.atOnce(k, body, file, limit, func(w trySender, b []byte) error {
		if file == nil {
			return w.TrySend(b)
		}
		return w.TrySend(b, file)
	})
}

// SendWithin sends a message as soon as the peer has room. file may be nil. SendWithin gives up after limit, which includes the
// wait for other senders. The caller closes the file.
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

func (l *Link) atOnce(k Kind, body any, file *os.File, limit time.Duration, send func(w trySender, b []byte) error) error {
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
	if !l.takeTurn(limit) {
		return errBusy
	}
	defer func() { <-l.turn }()
	return send(w, answering(b))
}

// Busy reports whether an error of Send, TrySend or SendWithin may be over later: the peer has no room, other senders take too
// long, or there is a shortage. Nothing has been sent then.
func Busy(err error) bool {
	return errors.Is(err, errBusy) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EAGAIN) || isShortage(err)
}

// isShortage reports whether an error of sending means a shortage that may be over in a moment: too many descriptors are in
// sockets between processes, or there is too little memory. Go's network poller has no event for the end of a shortage, so
// SendWithin tries again.
func isShortage(err error) bool {
	return errors.Is(err, syscall.ETOOMANYREFS) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// againAfter is how long SendWithin waits for an event of Go's network poller before it tries again. Linux calls a unix socket
// writable when three quarters of the buffer are free (unix_writable), but a message needs much less. So there may be room for
// a message long before the event comes.
const againAfter = 2 * time.Millisecond

func soonest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// rest waits for a millisecond, and reports whether the link is still open.
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

// Dup returns a duplicate of this end's descriptor, for another process. The caller closes the file.
func (l *Link) Dup() (*os.File, error) {
	w, ok := l.wire.(duplicator)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return w.Dup()
}

// Quit ends the receiving in this process. The socket stays open, so another process that has a descriptor of the same end can
// still receive. Frames delivers the frames received so far, and is closed after the last of these frames.
func (l *Link) Quit() {
	if w, ok := l.wire.(quitter); ok {
		w.Quit()
	}
}

// Close closes the socket, waits for the receiving goroutine, and closes the frames that are left in Frames. Close may be
// called twice.
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
