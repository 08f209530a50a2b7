// Package wire is the control protocol between an old process and its candidate: messages, and the link that carries the
// messages with their descriptors.
//
//	messages.go  the messages: kinds, bodies, versions
//	frame.go     the bytes of a message
//	link.go      Link: sends and receives messages
//	socket_*.go  the socket that a Link uses
//
// Builds with different versions of this package upgrade each other: the bytes of a message are a contract, which
// protocol_test.go checks. A new version may add a kind, or a field of a body. It must not change the number of a kind.
package wire

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

// Kind is the kind of a message. The old process and its candidate share a private socket, which is made for one attempt. A
// receiver ignores a message of an unknown kind, and closes its descriptors.
//
//	candidate                 old
//	            <------------ listeners  listening sockets; the first message is sent before the candidate is executed
//	listeners   ------------>            the candidate has received the sockets sent so far, and waits for more
//	hello       ------------>            the candidate has its sockets, and sends their number
//	            <------------ welcome    with state and a file for crash output; may come before hello
//	            <------------ previous   a build for a rollback: mostly the executable and arguments of the old process
//	            <------------ elder      the control socket of an older, draining generation; a message for each generation
//	takes       ------------>            which listeners of the candidate take connections; before prepared and serving
//	prepared    ------------>            the checks have passed
//	            <------------ dial       a private connection, for a smoke test; any number of messages, until commit
//	dialed      ------------>            the answer to dial
//	            <------------ takes      which listeners of the old process take connections back; before share
//	            <------------ share      memory for the slots of passed connections
//	            <------------ conn       a connection, by its descriptor; any number of messages
//	conn        ------------>            a connection that the candidate sends back
//	            <------------ conns      idle connections, by their descriptors; any number of messages, until the old process ends
//	conns       ------------>            idle connections that the candidate sends back
//	took        ------------>            the answer to conns; the old process answers conns of the candidate in the same way
//	beat        ------------>            the candidate is alive; sent every 0.1 seconds after share
//	            <------------ weight     the weight is lower now: the candidate sends a part of its idle connections back
//	message     ------------>            a message of the application
//	            <------------ open       the candidate is to accept, beside the old process or in its place
//	            <------------ shut       the candidate is to stop accepting
//	            <------------ commit     with fresh state; then the candidate sends the Ready byte on tableflip's pipe
//	serving     ------------>            the candidate has taken over
//	            <------------ named      the old process has told the service manager the candidate's pid, or will not do so
//	            <------------ conn       an idle connection, while the old process drains
//	hurry       ------------>            the old process is to close its idle connections; at any time after serving
//	            <------------ introduce  a broadcast socket to another generation: after the start, a message for each generation
//	introduce   ------------>            the same, after serving: for a generation that has no such socket yet
//
//	failed      ------------>            the candidate gives up, with the reason; from here on it does the same as after abort
//	            <------------ abort      the old process does not want the candidate; at any time before commit
//	returned    ------------>            an aborted candidate has finished; with state if the candidate has accepted
//	            <------------ released   the old process lives, and has received returned: the candidate may end
//
// Two generations have a broadcast socket besides, on which both send the same two kinds of messages:
//
//	introduce   the first message: the sender reads this socket
//	broadcast   a message of the application for the other generation
type Kind uint8

// The kinds. A comment names the body of the message and the files that come with the message, if any. After the colon it
// describes what the message means.
const (
	KindHello    Kind = iota + 1 // HelloBody: the candidate has started
	KindWelcome                  // WelcomeBody, the files that it lists: describes the upgrade to the candidate
	KindPrepared                 // PreparedBody: the checks have passed and the server waits in Accept
	KindOpen                     // the candidate is to accept connections, beside the old process or in place of it
	KindCommit                   // CommitBody, a file with state: the candidate is to take over
	KindServing                  // ServingBody: the candidate has taken over
	KindFailed                   // FailedBody: the candidate gives up
	KindAbort                    // AbortBody: the old process does not want the candidate
	KindReturned                 // a file with state if the candidate has accepted: an aborted candidate has finished
	KindReleased                 // the old process has received KindReturned

	KindDial     // DialBody, a connection: a private connection for Smoke or Bake
	KindDialed   // DialedBody: the answer to KindDial
	KindPrevious // PreviousBody, an executable, and a file with its arguments: the build for a rollback
	KindElder    // ElderBody, a control socket: an older generation that drains
	KindHurry    // the receiver is to close its idle connections: too many generations drain
	KindShare    // the file of handoff.Slots: the old process will send connections
	KindConn     // ConnBody, a connection: the receiver serves it from now on
	KindBeat     // the candidate is alive
	KindWeight   // WeightBody: the candidate is to send a part of its idle connections back
	KindShut     // the candidate is to accept no more connections
	KindMessage  // MessageBody: a message of the application for the judge

	KindListeners // ListenersBody, listening sockets; the candidate answers without sockets, to ask for more
	KindTakes     // TakesBody: the sender takes connections of these listeners
	KindNamed     // the old process has named the candidate to the service manager, or will not do so any more

	KindIntroduce // IntroduceBody, a broadcast socket; without the socket as the first and the last message on such a socket
	KindBroadcast // BroadcastBody: a message of the application for the other generation; on a broadcast socket only

	KindConns // ConnsBody, connections: the receiver serves those that it names in KindTook
	KindTook  // TookBody: the answer to KindConns

	kindEnd // the number of the next new kind
)

var kindNames = [...]string{
	KindHello: "hello", KindWelcome: "welcome", KindPrepared: "prepared", KindOpen: "open", KindCommit: "commit",
	KindServing: "serving", KindFailed: "failed", KindAbort: "abort", KindReturned: "returned", KindReleased: "released",
	KindDial: "dial", KindDialed: "dialed", KindPrevious: "previous", KindElder: "elder", KindHurry: "hurry",
	KindShare: "share", KindConn: "conn", KindBeat: "beat", KindWeight: "weight", KindShut: "shut", KindMessage: "message",
	KindListeners: "listeners", KindTakes: "takes", KindNamed: "named",
	KindIntroduce: "introduce", KindBroadcast: "broadcast", KindConns: "conns", KindTook: "took",
}

// String returns the name of the kind in the table of Kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Known reports whether this version of the protocol has the kind.
func (k Kind) Known() bool { return k > 0 && k < kindEnd }

// ProtocolMin and ProtocolMax are the lowest and the highest version of the protocol that this library speaks. Two processes
// can upgrade each other if they speak a common version (see Overlap).
const (
	ProtocolMin = 4 // the first version in which the candidate gets its listening sockets by the control socket
	ProtocolMax = 4
)

// HelloBody describes the candidate. Min and Max are the lowest and the highest version of the protocol that the candidate
// speaks.
type HelloBody struct {
	Min     int    `json:"min"`
	Max     int    `json:"max"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Speaks  bool   `json:"speaks,omitempty"` // the candidate reports its state to a service manager itself

	Listeners int `json:"listeners,omitempty"` // how many sockets the candidate has received in messages of KindListeners
}

// ListenersBody names the sockets of a message, in the order of their descriptors. A message has as many sockets as fit. The
// next message is sent only after the candidate has received these sockets, because the kernel limits the descriptors of a user
// that are on their way between processes.
type ListenersBody struct {
	Total int          `json:"total"`           // the number of sockets in all messages; in an answer: those received so far
	Names []SocketName `json:"names,omitempty"` // the sockets of this message
	Late  []int        `json:"late,omitempty"`  // indexes in Names: sockets that were opened late (see listener.Set.Begin)
	Own   []int        `json:"own,omitempty"`   // indexes in Names: sockets that this library, and no socket unit, has opened
	Links []PathLink   `json:"links,omitempty"` // one for each of Names; empty if no socket has a link
}

// LateNames returns the names whose indexes are in Late.
func (b *ListenersBody) LateNames() []SocketName { return b.pick(b.Late) }

// OwnNames returns the names whose indexes are in Own.
func (b *ListenersBody) OwnNames() []SocketName { return b.pick(b.Own) }

func (b *ListenersBody) pick(which []int) (names []SocketName) {
	for _, i := range which {
		if i >= 0 && i < len(b.Names) {
			names = append(names, b.Names[i])
		}
	}
	return names
}

// Fit returns how many of the sockets fit into a message. If there are sockets, the result is at least 1.
func Fit(names []SocketName, links []PathLink) int {
	room := textRoom
	if runtime.GOOS != "linux" {
		room = 4 << 10 // the buffer of the socket may be small, and the candidate does not run yet
	}
	return fit(names[:min(len(names), sys.MaxFiles)], links, room)
}

// textRoom is how many bytes of a message are free for names.
const textRoom = frameLimit - frameHeader - 64

func fit(names []SocketName, links []PathLink, room int) int {
	for n, name := range names {
		room -= len(`{"kind":,"network":,"addr":},`) + jsonSize(name.Kind) + jsonSize(name.Network) + jsonSize(name.Addr) + 2*len(",253")
		if n < len(links) {
			l, _ := json.Marshal(links[n]) // Marshal of a PathLink never fails
			room -= len(l) + 1
		}
		if room < 0 {
			return max(n, 1)
		}
	}
	return len(names)
}

// jsonSize returns at least the number of bytes of a string in JSON.
func jsonSize(s string) int {
	size := len(`""`) + len(s)
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			size += len(`\u0000`) - 1
		}
	}
	return size
}

// ServingBody is the body of KindServing. Older builds, which do not know KindNamed, send no body.
type ServingBody struct {
	Since time.Duration `json:"since,omitempty"` // when the candidate became the service: a reading of sys.Uptime
}

// Surroundings are the fields of a WelcomeBody that describe neither the upgrade nor the old process. In JSON they stand beside
// the other fields of the WelcomeBody.
type Surroundings struct {
	Detached bool `json:"detached,omitempty"` // the service was started by nohup, and ignores the end of the terminal
	Crash    bool `json:"crash,omitempty"`    // a file for crash output comes after the file with state
	Channel  bool `json:"channel,omitempty"`  // the last file is the candidate's end of its channel to the supervisor
}

// WelcomeBody describes the upgrade to the candidate.
type WelcomeBody struct {
	Protocol   int   `json:"protocol"`        // the lowest version that the old process speaks
	Generation int   `json:"generation"`      // the candidate's generation
	Millis     int64 `json:"ms,omitempty"`    // how many milliseconds the candidate has until it must be prepared
	State      bool  `json:"state,omitempty"` // the first file has state
	Surroundings
	Only bool `json:"only,omitempty"` // no other process serves: the candidate has to serve even if its checks fail

	Kind    string        `json:"kind,omitempty"`   // the kind of the upgrade, for its Outcome
	Started time.Time     `json:"started,omitzero"` // when the upgrade began, as a time of day
	Begun   time.Duration `json:"begun,omitempty"`  // when the upgrade began: a reading of sys.Uptime

	From  string       `json:"from,omitempty"`  // the version of the old process
	PID   int          `json:"pid,omitempty"`   // the pid of the old process
	Paths []SocketName `json:"paths,omitempty"` // the unix sockets with a path, if they came as files at exec
	Links []PathLink   `json:"links,omitempty"` // one for each of Paths; empty if no socket has a link

	Expected []SocketName `json:"expected,omitempty"` // sockets that the candidate has to open, if they came as files at exec

	Names  bool     `json:"names,omitempty"`  // the old process will tell the service manager the candidate's pid
	Stored []string `json:"stored,omitempty"` // a service manager's names for the sockets, if they came as files at exec
}

// PreparedBody describes what the candidate needs before it can accept.
type PreparedBody struct {
	Exclusive bool `json:"exclusive,omitempty"` // the candidate needs exclusive resources before it can accept
	Beside    bool `json:"beside,omitempty"`    // a socket listens only after the commit (see listener/beside.go)
}

// DialBody names the listener that gets a private connection.
type DialBody struct {
	ID      int    `json:"id"`
	Network string `json:"network,omitempty"` // the name of the listener, see listener.Set; empty: the first listener
	Addr    string `json:"addr,omitempty"`
}

// DialedBody is the answer to a private connection.
type DialedBody struct {
	ID    int    `json:"id"`
	Error string `json:"error,omitempty"` // for example: the candidate has no such listener
}

// ConnBody describes a connection that moves to another process.
type ConnBody struct {
	Network string `json:"network"` // the name of the listener that accepted the connection, see listener.Set
	Addr    string `json:"addr"`
	Slot    int    `json:"slot,omitempty"`  // the connection's place in handoff.Slots; 0: the old process keeps no descriptor
	Idle    bool   `json:"idle,omitempty"`  // the connection is between two requests
	Ahead   []byte `json:"ahead,omitempty"` // bytes that the receiver is to read before it reads from the connection

	// How chance has assigned the connection to the receiver, a candidate. Earlier builds send no Turn; the Unit is the client's
	// address then, and the Weight the candidate's share. A receiver ignores such a Unit and Weight.
	Turn   int     `json:"turn,omitempty"`   // the turn of the assignment (see turn in package handoff); 0: chance has not assigned it
	Unit   string  `json:"unit,omitempty"`   // what was assigned: the connection or the client's address
	Weight float64 `json:"weight,omitempty"` // the probability of the assignment
}

// ConnsBody describes the connections of a message, in the order of their descriptors.
type ConnsBody struct {
	ID    uint64     `json:"id"` // a number that the sender chooses for the message
	Conns []ConnBody `json:"conns"`
}

// TookBody is the answer to a message of KindConns. The first Took connections of the message belong to the process that
// answers, and the others to the sender of the message. Without an answer, all of them belong to the sender.
type TookBody struct {
	ID   uint64 `json:"id"`
	Took int    `json:"took"`
}

// WeightBody is the candidate's share of new connections before and after a step.
type WeightBody struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// MessageBody is a message of the application.
type MessageBody struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// PreviousBody is the body of KindPrevious.
type PreviousBody struct {
	// Earlier means that the candidate runs the same build as the sender, so the build in this message is an earlier one. If
	// Earlier is false, the build in this message is the build of the sender.
	Earlier bool `json:"earlier,omitempty"`
}

// IntroduceBody describes a generation at the other end of a broadcast socket. On a control socket it is the generation to which
// the receiver gets a broadcast socket. On the broadcast socket itself it is the sender.
type IntroduceBody struct {
	Generation int           `json:"generation,omitempty"` // 0 on a broadcast socket: the receiver has learned the number before
	PID        int           `json:"pid,omitempty"`
	Since      time.Duration `json:"since,omitempty"` // when the process was started, by sys.Uptime: it lacks the messages sent since then
	ID         string        `json:"id,omitempty"`    // a random name of the process, only on a broadcast socket
	Ends       bool          `json:"ends,omitempty"`  // the sender closes the broadcast socket because its Run ends
}

// BroadcastBody is a message of the application for another generation.
type BroadcastBody struct {
	Seq  uint64 `json:"seq"` // the number of the message: the sender counts its messages from 1
	Name string `json:"name"`
	Data []byte `json:"data,omitempty"`
}

// ElderBody describes an older, draining generation.
type ElderBody struct {
	Generation int    `json:"generation"`
	PID        int    `json:"pid"`
	Version    string `json:"version"`
	Hurried    bool   `json:"hurried,omitempty"` // KindHurry was sent to the generation already
}

// CommitBody is the body of KindCommit.
type CommitBody struct {
	State bool `json:"state,omitempty"`
	Again bool `json:"again,omitempty"` // another upgrade was requested: the process that serves after this upgrade begins it
}

// TakesBody names the listeners of the sender. If there are many, they come in several messages.
type TakesBody struct {
	Listeners []SocketName `json:"listeners,omitempty"`
	Plain     []int        `json:"plain,omitempty"` // indexes in Listeners: these take no connection that has ConnBody.Ahead
}

// Cut splits b into a part that fits into one message, and the rest.
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

// FailedBody is the reason why the candidate gives up.
type FailedBody struct {
	Phase   string `json:"phase"` // a Phase of package upgrade
	Reason  string `json:"reason"`
	Aborted bool   `json:"aborted,omitempty"` // the candidate was asked to stop, for example by a signal
}

// AbortBody is the reason why the old process does not want the candidate.
type AbortBody struct {
	Reason   string `json:"reason"`
	Stopping bool   `json:"stopping,omitempty"` // the candidate must not become the service, nor wait for an answer
}

// Clip shortens a reason to 4 KiB, so that it fits into a frame: in JSON each byte of the reason may need six bytes.
func Clip(s string) string {
	const most = 4 << 10
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// Overlap compares the versions of the protocol that another process speaks, from low to high, with the versions of this
// process. If no version is in both ranges, Overlap returns an error with advice.
func Overlap(low, high int) error {
	if low <= ProtocolMax && high >= ProtocolMin {
		return nil
	}
	return fmt.Errorf("it speaks versions %d to %d of the control protocol, this process %d to %d: upgrade to a release in between first, or stop the service and start it",
		low, high, ProtocolMin, ProtocolMax)
}
