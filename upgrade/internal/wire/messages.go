package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
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
//	            <------------ welcome    with state and a file for crash output; it may come before hello
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
type Kind uint8

const (
	KindHello Kind = iota + 1
	KindWelcome
	KindPrepared
	KindOpen
	KindCommit
	KindServing
	KindFailed
	KindAbort
	KindReturned
	KindReleased
	// Since version 2. A peer of version 1 ignores them.
	KindDial
	KindDialed
	KindPrevious
	KindElder
	KindHurry
	KindShare
	KindConn
	KindBeat
	KindWeight
	KindShut
	KindMessage
)

// ProtocolMin and protocolMax are the versions of the protocol that this library speaks. The old process takes the
// highest that both know.
const (
	ProtocolMin = 1
	ProtocolMax = 2
)

const (
	frameMagic  = "mdr1"
	frameHeader = 12
	frameLimit  = 32 << 10 // a frame always fits into the socket's buffer
)

type Frame struct {
	Kind   Kind
	Body   []byte
	nfiles int
	Files  []*os.File
}

type HelloBody struct {
	Min     int    `json:"min"`
	Max     int    `json:"max"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Speaks  bool   `json:"speaks,omitempty"` // it tells a service manager itself what becomes of it
}

type WelcomeBody struct {
	Protocol   int   `json:"protocol"`        // the lowest that the old process speaks: it may not know hello yet
	Generation int   `json:"generation"`      // of the candidate
	Millis     int64 `json:"ms,omitempty"`    // how long it has until it must be prepared
	State      bool  `json:"state,omitempty"` // a file with state comes along, first
	Crash      bool  `json:"crash,omitempty"` // a file for crash output comes along, last
	Only       bool  `json:"only,omitempty"`  // nobody serves: it has to, whatever its checks say

	Kind    string    `json:"kind,omitempty"`   // of the upgrade, for its Outcome
	Started time.Time `json:"started,omitzero"` // the same

	From  string       `json:"from,omitempty"`  // version of the old process
	Paths []SocketName `json:"paths,omitempty"` // of the unix sockets that come along

	Stored []string `json:"stored,omitempty"` // names of the sockets that a service manager keeps
}

type PreparedBody struct {
	Exclusive bool `json:"exclusive,omitempty"` // it must not accept before it has what the old process holds
}

type DialBody struct {
	ID      int    `json:"id"`
	Network string `json:"network,omitempty"` // as given to Listen; empty: the first listener
	Addr    string `json:"addr,omitempty"`
}

type DialedBody struct {
	ID    int    `json:"id"`
	Error string `json:"error,omitempty"` // it has no such listener, say
}

// ConnBody describes a connection that changes process.
type ConnBody struct {
	Network string  `json:"network"` // the listener that it came from, as the program named it
	Addr    string  `json:"addr"`
	Slot    int     `json:"slot,omitempty"`  // its place in the shared memory; 0: nobody keeps a descriptor of it
	Idle    bool    `json:"idle,omitempty"`  // it is between two requests
	Ahead   []byte  `json:"ahead,omitempty"` // what is to be read from it first
	Unit    string  `json:"unit,omitempty"`  // the client, as a progressive upgrade splits them
	Weight  float64 `json:"weight,omitempty"`
}

type WeightBody struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

type MessageBody struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// ElderBody describes an older generation that drains.
type ElderBody struct {
	Generation int    `json:"generation"`
	PID        int    `json:"pid"`
	Version    string `json:"version"`
	Hurried    bool   `json:"hurried,omitempty"`
}

type CommitBody struct {
	State bool `json:"state,omitempty"`
	Again bool `json:"again,omitempty"` // an upgrade was asked for meanwhile: whoever serves does it
}

type ServingBody struct {
	Listeners []SocketName `json:"listeners,omitempty"` // that could take idle connections
}

type FailedBody struct {
	Phase   string `json:"phase"` // a Phase of upgrade
	Reason  string `json:"reason"`
	Aborted bool   `json:"aborted,omitempty"` // it was told to stop
}

type AbortBody struct {
	Reason   string `json:"reason"`
	Stopping bool   `json:"stopping,omitempty"` // nobody is to take over, and nothing that is said will be heard
}

// Clip keeps a reason small enough for a frame; in JSON a byte may become six.
func Clip(s string) string {
	const most = 4 << 10
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

func (f Frame) Decode(v any) error {
	if len(f.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(f.Body, v); err != nil {
		return fmt.Errorf("control frame %d: %w", f.Kind, err)
	}
	return nil
}

// Overlap says what to do if the other side has no version in common with this one.
func Overlap(low, high int) error {
	if low <= ProtocolMax && high >= ProtocolMin {
		return nil
	}
	return fmt.Errorf("it speaks versions %d to %d of the control protocol, this process %d to %d: upgrade to a release in between first, or stop the service and start it",
		low, high, ProtocolMin, ProtocolMax)
}

func (f Frame) Close() {
	for _, file := range f.Files {
		file.Close()
	}
}

func Encode(k Kind, body any, nfiles int) ([]byte, error) {
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
	ErrFrame   = errors.New("what came on the control socket is not a frame")
	ErrMissing = fmt.Errorf("%w: descriptors are missing, perhaps too many files are open", ErrFrame)
)

// cutFrame takes the first frame off b. With a nil rest and a nil error there is no whole frame in b yet.
func cutFrame(b []byte) (f Frame, rest []byte, err error) {
	if len(b) < frameHeader {
		return Frame{}, nil, nil
	}
	size := binary.BigEndian.Uint32(b[8:])
	if string(b[:4]) != frameMagic || size > frameLimit-frameHeader {
		return Frame{}, nil, ErrFrame
	}
	end := frameHeader + int(size)
	if len(b) < end {
		return Frame{}, nil, nil
	}
	body := append([]byte(nil), b[frameHeader:end]...)
	return Frame{Kind: Kind(b[4]), Body: body, nfiles: int(b[5])}, b[end:len(b):len(b)], nil
}

// SocketName is tableflip's name of a socket.
type SocketName struct {
	Kind    string `json:"kind"`
	Network string `json:"network"`
	Addr    string `json:"addr"`
}
