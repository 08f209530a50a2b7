package upgrade

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// The control protocol. Old process and candidate share a private socket that is made for one attempt. It carries
// frames: a header of 12 bytes and a JSON body, so that a field may be added in either process without the other
// knowing it. A frame of an unknown kind is ignored, and its descriptors are closed.
//
//	0  4  magic "mdr1"
//	4  1  kind
//	5  1  number of descriptors that come along, 8 at most
//	6  2  zero; ignored when read
//	8  4  length of the body, big endian
//
//	candidate                 old
//	hello       ------------>
//	            <------------ welcome    with state and a file for crash output
//	            <------------ previous   the old one's executable and arguments, for a rollback
//	            <------------ elder      the control socket of an older generation that drains; one frame each
//	prepared    ------------>
//	            <------------ dial       a private connection, for a smoke test; any number, until commit
//	dialed      ------------>
//	            <------------ share      memory for the slots of passed connections
//	            <------------ conn       a connection, by its descriptor; any number
//	conn        ------------>            one that goes back
//	beat        ------------>            it is alive; from share on
//	            <------------ weight     a lower one: some of the idle connections are to go back
//	message     ------------>            of the application
//	            <------------ open       accept beside the old one, or in its place
//	            <------------ shut       do not accept any more
//	            <------------ commit     with fresh state; then the Ready byte on tableflip's pipe
//	serving     ------------>
//	            <------------ conn       an idle connection, while the old one drains
//	hurry       ------------>            at any time afterwards: close idle connections, there are too many of you
//
//	failed      ------------>            the candidate gives up and says why; then as after an abort
//	            <------------ abort      at any time before commit
//	returned    ------------>            an aborted candidate has finished; with state if it had been open
//	            <------------ released   the old one has it and lives: the candidate may end
type kind uint8

const (
	kindHello kind = iota + 1
	kindWelcome
	kindPrepared
	kindOpen
	kindCommit
	kindServing
	kindFailed
	kindAbort
	kindReturned
	kindReleased
	// Since version 2. A peer of version 1 ignores them.
	kindDial
	kindDialed
	kindPrevious
	kindElder
	kindHurry
	kindShare
	kindConn
	kindBeat
	kindWeight
	kindShut
	kindMessage
)

// protocolMin and protocolMax are the versions of the protocol that this library speaks. The old process takes the
// highest that both know.
const (
	protocolMin = 1
	protocolMax = 2
)

const (
	frameMagic  = "mdr1"
	frameHeader = 12
	frameLimit  = 32 << 10 // a frame always fits into the socket's buffer
)

type frame struct {
	kind   kind
	body   []byte
	nfiles int
	files  []*os.File
}

type helloBody struct {
	Min     int    `json:"min"`
	Max     int    `json:"max"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Speaks  bool   `json:"speaks,omitempty"` // it tells a service manager itself what becomes of it
}

type welcomeBody struct {
	Protocol   int   `json:"protocol"`
	Generation int   `json:"generation"`      // of the candidate
	Millis     int64 `json:"ms,omitempty"`    // how long it has until it must be prepared
	State      bool  `json:"state,omitempty"` // a file with state comes along, first
	Crash      bool  `json:"crash,omitempty"` // a file for crash output comes along, last
	Only       bool  `json:"only,omitempty"`  // nobody serves: it has to, whatever its checks say

	Kind    string    `json:"kind,omitempty"`   // of the upgrade, for its Outcome
	Started time.Time `json:"started,omitzero"` // the same

	From  string       `json:"from,omitempty"`  // version of the old process
	Paths []socketName `json:"paths,omitempty"` // of the unix sockets that come along

	Stored []string `json:"stored,omitempty"` // names of the sockets that a service manager keeps
}

type preparedBody struct {
	Exclusive bool `json:"exclusive,omitempty"` // it must not accept before it has what the old process holds
}

type dialBody struct {
	ID      int    `json:"id"`
	Network string `json:"network,omitempty"` // as given to Listen; empty: the first listener
	Addr    string `json:"addr,omitempty"`
}

type dialedBody struct {
	ID    int    `json:"id"`
	Error string `json:"error,omitempty"` // it has no such listener, say
}

// connBody describes a connection that changes process.
type connBody struct {
	Network string  `json:"network"` // the listener that it came from, as the program named it
	Addr    string  `json:"addr"`
	Slot    int     `json:"slot,omitempty"`  // its place in the shared memory; 0: nobody keeps a descriptor of it
	Idle    bool    `json:"idle,omitempty"`  // it is between two requests
	Ahead   []byte  `json:"ahead,omitempty"` // what is to be read from it first
	Unit    string  `json:"unit,omitempty"`  // the client, as a progressive upgrade splits them
	Weight  float64 `json:"weight,omitempty"`
}

type weightBody struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

type messageBody struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// elderBody describes an older generation that drains.
type elderBody struct {
	Generation int    `json:"generation"`
	PID        int    `json:"pid"`
	Version    string `json:"version"`
	Hurried    bool   `json:"hurried,omitempty"`
}

type commitBody struct {
	State bool `json:"state,omitempty"`
	Again bool `json:"again,omitempty"` // an upgrade was asked for meanwhile: whoever serves does it
}

type servingBody struct {
	Listeners []socketName `json:"listeners,omitempty"` // that could take idle connections
}

type failedBody struct {
	Phase   Phase  `json:"phase"`
	Reason  string `json:"reason"`
	Aborted bool   `json:"aborted,omitempty"` // it was told to stop
}

type abortBody struct {
	Reason   string `json:"reason"`
	Stopping bool   `json:"stopping,omitempty"` // nobody is to take over, and nothing that is said will be heard
}

// clip keeps a reason small enough for a frame; in JSON a byte may become six.
func clip(s string) string {
	const most = 4 << 10
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

func (f frame) decode(v any) error {
	if len(f.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(f.body, v); err != nil {
		return fmt.Errorf("control frame %d: %w", f.kind, err)
	}
	return nil
}

// overlap says what to do if the other side has no version in common with this one.
func overlap(low, high int) error {
	if low <= protocolMax && high >= protocolMin {
		return nil
	}
	return fmt.Errorf("it speaks versions %d to %d of the control protocol, this process %d to %d: upgrade to a release in between first, or stop the service and start it",
		low, high, protocolMin, protocolMax)
}

func (f frame) close() {
	for _, file := range f.files {
		file.Close()
	}
}

func encodeFrame(k kind, body any, nfiles int) ([]byte, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	if frameHeader+len(data) > frameLimit {
		return nil, fmt.Errorf("control frame %d: %d bytes are more than %d", k, len(data), frameLimit-frameHeader)
	}
	b := append(make([]byte, 0, frameHeader+len(data)), frameMagic...)
	b = append(b, byte(k), byte(nfiles), 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...), nil
}

var (
	errFrame   = errors.New("what came on the control socket is not a frame")
	errMissing = fmt.Errorf("%w: descriptors are missing, perhaps too many files are open", errFrame)
)

// cutFrame takes the first frame off b. With a nil rest and a nil error there is no whole frame in b yet.
func cutFrame(b []byte) (f frame, rest []byte, err error) {
	if len(b) < frameHeader {
		return frame{}, nil, nil
	}
	size := binary.BigEndian.Uint32(b[8:])
	if string(b[:4]) != frameMagic || size > frameLimit-frameHeader {
		return frame{}, nil, errFrame
	}
	end := frameHeader + int(size)
	if len(b) < end {
		return frame{}, nil, nil
	}
	body := append([]byte(nil), b[frameHeader:end]...)
	return frame{kind: kind(b[4]), body: body, nfiles: int(b[5])}, b[end:len(b):len(b)], nil
}

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
// its own: the kernel drops what this process has no room for.
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
		if f.nfiles > len(files) && (f.kind != kindConn || len(files) > 0) {
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
		return ErrNotSupported
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
		if limit <= 0 {
			return false
		}
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
