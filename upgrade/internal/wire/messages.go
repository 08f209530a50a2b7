// Package wire is the control protocol between an old process and its candidate: messages, and the link that carries them
// with their descriptors.
//
//	messages.go  what is said: kinds, bodies, versions
//	frame.go     how a message looks in bytes
//	link.go      who reads, who sends
//	socket_*.go  the socket below
//
// Builds with different versions of this package upgrade each other: the bytes of a message are a contract, which
// protocol_test.go holds. A field may be added to a body, a kind may be added, a number never changes.
package wire

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

// Kind says what a message is about. Old process and candidate share a private socket that is made for one attempt. A
// message of an unknown kind is ignored, and its descriptors are closed.
//
//	candidate                 old
//	            <------------ listeners  the listening sockets; it waits in the socket before the candidate is executed
//	listeners   ------------>            they are here, send more; only if there are more
//	hello       ------------>
//	            <------------ welcome    with state and a file for crash output; it may come before hello
//	            <------------ previous   the old one's executable and arguments, for a rollback
//	            <------------ elder      the control socket of an older generation that drains; one frame each
//	takes       ------------>            which connections it could be passed; any number, before prepared and before serving
//	prepared    ------------>
//	            <------------ dial       a private connection, for a smoke test; any number, until commit
//	dialed      ------------>
//	            <------------ takes      which connections it could give back; any number, before share
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
//	            <------------ named      the service manager has been told that the candidate is the main process
//	            <------------ conn       an idle connection, while the old one drains
//	hurry       ------------>            at any time afterwards: close idle connections, there are too many of you
//
//	failed      ------------>            the candidate gives up and says why; then as after an abort
//	            <------------ abort      at any time before commit
//	returned    ------------>            an aborted candidate has finished; with state if it had been open
//	            <------------ released   the old one has it and lives: the candidate may end
type Kind uint8

// The kinds, with what goes along. A descriptor comes with a message where the comment says so.
const (
	KindHello    Kind = iota + 1 // HelloBody: the candidate has started
	KindWelcome                  // WelcomeBody, files with state and for crash output: what the candidate begins with
	KindPrepared                 // PreparedBody: the checks have passed and the server waits in Accept
	KindOpen                     // accept beside the old process, or in its place
	KindCommit                   // CommitBody, a file with state: take over
	KindServing                  // ServingBody: the candidate has taken over
	KindFailed                   // FailedBody: the candidate gives up
	KindAbort                    // AbortBody: the old process does not want the candidate
	KindReturned                 // an aborted candidate has finished, a file with state if it had served
	KindReleased                 // the old process has what was returned

	KindDial     // DialBody, a connection: a private one, for Smoke and Bake
	KindDialed   // DialedBody: the answer to KindDial
	KindPrevious // a file that is the executable of the build before, and a file with its arguments
	KindElder    // ElderBody, a control socket: an older generation that drains
	KindHurry    // too many generations: close idle connections
	KindShare    // a file that is the memory of the slots: connections will come
	KindConn     // ConnBody, a connection: it belongs to the receiver now
	KindBeat     // the candidate is alive
	KindWeight   // WeightBody: give a part of the idle connections back
	KindShut     // do not accept any more
	KindMessage  // MessageBody: of the application, to the judge

	KindListeners // ListenersBody, listening sockets; the candidate's answer has none, and asks for more
	KindTakes     // TakesBody: connections that the sender could be passed
	KindNamed     // the old process has named the candidate to the service manager, or does not any more

	kindEnd // where the next kind comes: tests go through all of them
)

var kindNames = [...]string{
	KindHello: "hello", KindWelcome: "welcome", KindPrepared: "prepared", KindOpen: "open", KindCommit: "commit",
	KindServing: "serving", KindFailed: "failed", KindAbort: "abort", KindReturned: "returned", KindReleased: "released",
	KindDial: "dial", KindDialed: "dialed", KindPrevious: "previous", KindElder: "elder", KindHurry: "hurry",
	KindShare: "share", KindConn: "conn", KindBeat: "beat", KindWeight: "weight", KindShut: "shut", KindMessage: "message",
	KindListeners: "listeners", KindTakes: "takes", KindNamed: "named",
}

// String returns the name in the protocol's table.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Known reports whether this version of the protocol has the kind.
func (k Kind) Known() bool { return k > 0 && k < kindEnd }

// ProtocolMin and ProtocolMax are the versions of the protocol that this library speaks. The old process takes the
// highest that both know.
const (
	ProtocolMin = 4 // the first one in which the candidate finds its listening sockets in the control socket
	ProtocolMax = 4
)

// HelloBody has the candidate's versions of the protocol, and describes the candidate.
type HelloBody struct {
	Min     int    `json:"min"`
	Max     int    `json:"max"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Speaks  bool   `json:"speaks,omitempty"` // it tells a service manager itself what becomes of it

	Listeners int `json:"listeners,omitempty"` // how many sockets have come in messages of that kind
}

// ListenersBody names the sockets of a message, in the order of their descriptors. A message holds as many sockets as fit, and
// the next message is sent when the candidate has received them: the kernel limits how many a user has on the way.
type ListenersBody struct {
	Total int          `json:"total"`           // in all messages; in the answer how many have come
	Names []SocketName `json:"names,omitempty"` // of those that come along
	Late  []int        `json:"late,omitempty"`  // which of the names the candidate need not have opened to be prepared
	Own   []int        `json:"own,omitempty"`   // which of the names this library has opened, so that no service manager has them
	Links []PathLink   `json:"links,omitempty"` // of each of Names, if there are any
}

// LateNames returns the names for the numbers in Late.
func (b *ListenersBody) LateNames() []SocketName { return b.pick(b.Late) }

// OwnNames returns the names for the numbers in Own.
func (b *ListenersBody) OwnNames() []SocketName { return b.pick(b.Own) }

func (b *ListenersBody) pick(which []int) (names []SocketName) {
	for _, i := range which {
		if i >= 0 && i < len(b.Names) {
			names = append(names, b.Names[i])
		}
	}
	return names
}

// Fit returns how many of the sockets a message can name and carry; at least 1, unless there are none.
func Fit(names []SocketName, links []PathLink) int {
	room := textRoom
	if runtime.GOOS != "linux" {
		room = 4 << 10 // the buffer of the socket may be small, and nobody reads before the candidate runs
	}
	return fit(names[:min(len(names), sys.MaxFiles)], links, room)
}

// textRoom is the room for names in a message.
const textRoom = frameLimit - frameHeader - 64

func fit(names []SocketName, links []PathLink, room int) int {
	for n, name := range names {
		b, err := json.Marshal(name)
		room -= len(b) + 1 + 2*len(",253")
		if n < len(links) {
			l, _ := json.Marshal(links[n]) // it never fails
			room -= len(l) + 1
		}
		if err != nil || room < 0 {
			return max(n, 1)
		}
	}
	return len(names)
}

// ServingBody comes with KindServing. A build before the service manager's names sends none.
type ServingBody struct {
	Since time.Duration `json:"since,omitempty"` // when the candidate became the service, by sys.Uptime
}

// Surroundings are the connections of a candidate besides the old process. In JSON the fields belong to the welcome itself.
type Surroundings struct {
	Detached bool `json:"detached,omitempty"` // the end of the terminal is nothing to this service, which was started by nohup
	Crash    bool `json:"crash,omitempty"`    // a file for crash output comes along, after the state
	Channel  bool `json:"channel,omitempty"`  // the candidate's end of its channel to the supervisor comes along, last
}

// WelcomeBody describes the upgrade to the candidate.
type WelcomeBody struct {
	Protocol   int   `json:"protocol"`        // the lowest that the old process speaks: it may not know hello yet
	Generation int   `json:"generation"`      // of the candidate
	Millis     int64 `json:"ms,omitempty"`    // how long it has until it must be prepared
	State      bool  `json:"state,omitempty"` // a file with state comes along, first
	Surroundings
	Only bool `json:"only,omitempty"` // nobody serves: it has to, whatever its checks say

	Kind    string        `json:"kind,omitempty"`   // of the upgrade, for its Outcome
	Started time.Time     `json:"started,omitzero"` // the same, for people
	Begun   time.Duration `json:"begun,omitempty"`  // the same, by sys.Uptime

	From  string       `json:"from,omitempty"`  // version of the old process
	PID   int          `json:"pid,omitempty"`   // the same
	Paths []SocketName `json:"paths,omitempty"` // of the unix sockets that are files at exec
	Links []PathLink   `json:"links,omitempty"` // of each of Paths, if there are any

	Expected []SocketName `json:"expected,omitempty"` // the sockets that are files at exec and that it has to open

	Names  bool     `json:"names,omitempty"`  // the old process names the candidate to the service manager when the candidate serves
	Stored []string `json:"stored,omitempty"` // names of the sockets that a service manager keeps, if they came as files at exec
}

// PreparedBody has the candidate's needs before Accept.
type PreparedBody struct {
	Exclusive bool `json:"exclusive,omitempty"` // it must not accept before it has what the old process holds
	Beside    bool `json:"beside,omitempty"`    // a socket of it listens with the commit only, on a port where the old process has another one
}

// DialBody names the listener for a private connection.
type DialBody struct {
	ID      int    `json:"id"`
	Network string `json:"network,omitempty"` // the name of the listener, see listener.Set; empty: the first one
	Addr    string `json:"addr,omitempty"`
}

// DialedBody has the result for a private connection.
type DialedBody struct {
	ID    int    `json:"id"`
	Error string `json:"error,omitempty"` // it has no such listener, say
}

// ConnBody describes a connection that changes process.
type ConnBody struct {
	Network string  `json:"network"` // the name of the listener that it came from, see listener.Set
	Addr    string  `json:"addr"`
	Slot    int     `json:"slot,omitempty"`  // its place in the shared memory; 0: nobody keeps a descriptor of it
	Idle    bool    `json:"idle,omitempty"`  // it is between two requests
	Ahead   []byte  `json:"ahead,omitempty"` // what is to be read from it first
	Unit    string  `json:"unit,omitempty"`  // the client, as a progressive upgrade splits them
	Weight  float64 `json:"weight,omitempty"`
}

// WeightBody is the share of the candidate before and after a step.
type WeightBody struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// MessageBody is a message of the application.
type MessageBody struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// ElderBody describes an older, draining generation.
type ElderBody struct {
	Generation int    `json:"generation"`
	PID        int    `json:"pid"`
	Version    string `json:"version"`
	Hurried    bool   `json:"hurried,omitempty"`
}

// CommitBody goes with the commit.
type CommitBody struct {
	State bool `json:"state,omitempty"`
	Again bool `json:"again,omitempty"` // an upgrade was asked for meanwhile: whoever serves does it
}

// TakesBody names listeners of the sender, in several messages if there are many.
type TakesBody struct {
	Listeners []SocketName `json:"listeners,omitempty"`
	Plain     []int        `json:"plain,omitempty"` // which of them take no connection with bytes that are to be read first
}

// Cut returns the part for one message, and the rest.
func (b TakesBody) Cut() (part, rest TakesBody) {
	n := fit(b.Listeners, nil, textRoom)
	part.Listeners, rest.Listeners = b.Listeners[:n], b.Listeners[n:]
	for _, i := range b.Plain {
		if i < n {
			part.Plain = append(part.Plain, i)
		} else {
			rest.Plain = append(rest.Plain, i-n)
		}
	}
	return part, rest
}

// FailedBody says why the candidate gives up.
type FailedBody struct {
	Phase   string `json:"phase"` // a Phase of upgrade
	Reason  string `json:"reason"`
	Aborted bool   `json:"aborted,omitempty"` // it was told to stop
}

// AbortBody says why the candidate is not wanted.
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

// Overlap returns an error, with advice, if the other side has no version in common with this process.
func Overlap(low, high int) error {
	if low <= ProtocolMax && high >= ProtocolMin {
		return nil
	}
	return fmt.Errorf("it speaks versions %d to %d of the control protocol, this process %d to %d: upgrade to a release in between first, or stop the service and start it",
		low, high, ProtocolMin, ProtocolMax)
}
