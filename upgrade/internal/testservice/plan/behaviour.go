package plan

import (
	"cmp"
	"fmt"
	"strings"
)

// Misbehaviour is how a generation fails, or does something for a single test. The words are in the settings file and in
// the names of subtests. The first generation does not misbehave, unless the comment says so.
type Misbehaviour string

// Before upgrade.New.
const (
	ExitAtStart    Misbehaviour = "start"   // the status is 7
	HangAtStart    Misbehaviour = "hang"    // New is never called
	InspectAtStart Misbehaviour = "inspect" // exits with status 9 if it has inherited a connection, and with 7 if not

	JoinsOldGroup Misbehaviour = "group"          // of processes, that of the old process
	OwnSession    Misbehaviour = "session"        // begins one, with a group of its own
	LeavesHelper  Misbehaviour = "helper"         // in its group, with all that it has inherited, and joins the old group
	ExitsOfHelper Misbehaviour = "exit of helper" // the same, and exits with status 7
	WaitsAtStart  Misbehaviour = "wait"           // for the file "release"
	ExitsOfKeeper Misbehaviour = "exit of keeper" // starts a process that keeps the control socket, in the old group, and exits with status 7
	StealsSockets Misbehaviour = "thief"          // reads the first message from the control socket
	FewFiles      Misbehaviour = "few files"      // has room for a few descriptors only
	OnlyReady     Misbehaviour = "only ready"     // joins the old group, writes tableflip's Ready byte, and says and hears nothing else
)

// When listeners are opened.
const (
	ListenFails          Misbehaviour = "listen"       // one of the addresses cannot be had
	ListenMore           Misbehaviour = "newsock"      // on new.sock in its directory too
	ListenPinned         Misbehaviour = "pin"          // the main listener is pinned
	FirstReopens         Misbehaviour = "reopen"       // the first generation closes its listener and opens it again
	FirstReopensTwice    Misbehaviour = "reopen twice" // the same, twice
	ListenMoreCheckFails Misbehaviour = "check-newsock"

	RemovesPaths           Misbehaviour = "remove paths"       // every generation removes the path of a unix socket and listens there then
	RemovesPathAtEnd       Misbehaviour = "remove path at end" // every generation removes the path of the main listener after Run
	RemovesPathsCheckFails Misbehaviour = "check-remove"       // the same, in a candidate that fails then

	CleansUp Misbehaviour = "clean up" // every generation makes the file "cleaning" with its pid after Run, and "cleaned" a moment later
)

// Stranger is the uid of a user who owns nothing.
const Stranger = 65534

// In a check.
const (
	CheckFails    Misbehaviour = "check"
	CheckFailLong Misbehaviour = "check-long" // the reason has 40 KiB
	CheckPanics   Misbehaviour = "check-panic"
	CheckHangs    Misbehaviour = "check-hang"
	CheckWaits    Misbehaviour = "check-wait" // for the file "release"; SaysCheckWaits is in the output
	CheckCrashes  Misbehaviour = "crash"      // a goroutine panics meanwhile
	CheckDropUser Misbehaviour = "drop-user"  // the candidate becomes the user Stranger
)

// When something is taken over from the old process.
const (
	RefuseValue         Misbehaviour = "refuse-always"
	RefuseValueAtCommit Misbehaviour = "refuse-commit" // the value that comes with the start is read
	ValueHangsAtCommit  Misbehaviour = "hang-commit"   // the same, and the value that comes with the commit is never read
	AcquireFails        Misbehaviour = "acquire"
	AcquireSecondFails  Misbehaviour = "second" // of two exclusive resources
)

// While the generation serves.
const (
	ServeFails     Misbehaviour = "serve"
	FirstChurns    Misbehaviour = "churn"      // the first generation opens and closes listeners all the time
	RequestsFail   Misbehaviour = "errors=0.2" // with status 500, one of five, while the file "bad" is there
	RequestsPanic  Misbehaviour = "panic=0.1"  // one of ten, while the file "bad" is there
	ExitsInRequest Misbehaviour = "exit"       // when the file "bad" is there
)

// Judge is Options.Bake of a service.
type Judge string

// The judges.
const (
	BakePasses     Judge = "ok"
	BakeFails      Judge = "error"
	BakePanics     Judge = "panic"
	BakeHangs      Judge = "forever" // until its context ends
	BakeToggles    Judge = "toggle"  // gives the candidate the weights 1 and 0 in turn
	BakeSteps      Judge = "steps"   // goes through Weights, and stays at each until the file "step" is removed
	BakeHearsNews  Judge = "listen"  // passes when the candidate has published
	BakeRejectNews Judge = "object"  // the subscriber returns an error
	BakeBlueGreen  Judge = "blue green"
)

// Split is Options.Split of a service.
type Split string

// SplitAll gives the candidate every connection.
const SplitAll Split = "all"

// SmokeTest is Options.Smoke of a service.
type SmokeTest string

// The smoke tests.
const (
	SmokePasses   SmokeTest = "ok" // after twenty requests, each on a connection that stays open
	SmokeFails    SmokeTest = "error"
	SmokePanics   SmokeTest = "panic"
	SmokeHangs    SmokeTest = "forever" // until its context ends
	SmokeAsks404  SmokeTest = "answer"  // asks for what is not there
	SmokeAdds     SmokeTest = "add"     // changes the candidate's state
	SmokeMisdials SmokeTest = "refusals"
	SmokeKeeps    SmokeTest = "keep" // the candidate is used after the smoke test, by /dial-late
)

// Verification is Options.Verify of a service.
type Verification string

// The verifications.
const (
	VerifyPasses Verification = "ok"
	VerifyFails  Verification = "error"
	VerifyPanics Verification = "panic"
	VerifyExits  Verification = "exit" // its goroutine ends
	VerifyHangs  Verification = "hang"
	VerifySwaps  Verification = "swap" // replaces the file that it has read by a bad one
)

// Lock is when a service needs its lock: a resource for a single process at a time, by the kernel.
type Lock string

// The kinds of locks.
const (
	LockServing    Lock = "serving"
	LockBackground Lock = "background"
)

// Names is the network of a service for datagrams, a service like DNS.
type Names string

// The networks.
const (
	NamesUDP  Names = "udp"
	NamesUnix Names = "unixgram"
)

// Drop is when a service that was started as root becomes Nobody.
type Drop string

// The times of a drop.
const (
	DropFirst     Drop = "before New"
	DropListening Drop = "when it listens" // and before Run
	DropAsked     Drop = "when it is asked to"
)

// Nobody is the user that a service becomes.
const Nobody = 65534

// Meddle is a way to change the messages between a candidate and the old process, so that each meets a peer of another
// version, or a peer with rubbish.
type Meddle string

// The ways to meddle.
const (
	Speaks  Meddle = "speaks"  // the candidate knows the versions Low to High of the protocol
	Chooses Meddle = "chooses" // the old process chooses the version Low
	Refuses Meddle = "refuses" // the old process refuses the candidate, for Reason
	Future  Meddle = "future"  // both know more versions, fields and messages
	Rubbish Meddle = "rubbish" // rubbish in place of the message of a kind
	Retort  Meddle = "retort"  // rubbish after the message of a kind, from the process that received the message
	Says    Meddle = "says"    // the candidate says Word too: when it has sent or received a message of Kind, or at its start
)

// ReadyByte is the Word that is no message, but the byte on tableflip's pipe.
const ReadyByte = "the Ready byte"

// Meddling is a change to the control socket of the next generation. The zero value changes nothing.
type Meddling struct {
	Do        Meddle
	Low, High int
	Reason    string
	Kind      string // of message, by the name that the protocol gives it: hello, welcome, ...
	Word      string // the same, or ReadyByte
}

// String is the way to meddle with the values of the other fields.
func (m Meddling) String() string {
	switch m.Do {
	case Speaks:
		return fmt.Sprintf("%s:%d %d", m.Do, m.Low, m.High)
	case Chooses:
		return fmt.Sprintf("%s:%d", m.Do, m.Low)
	case Says:
		return fmt.Sprintf("%s:%s after %s", m.Do, m.Word, cmp.Or(m.Kind, "its start"))
	}
	return strings.TrimSuffix(fmt.Sprintf("%s:%s%s", m.Do, m.Kind, m.Reason), ":")
}

// Lines in the output of a service.
const (
	SaysServeReturned  = "serve has returned"
	SaysMarshalHangs   = "MarshalBinary hangs"
	SaysUnmarshalHangs = "UnmarshalBinary hangs"
	SaysCheckWaits     = "the check waits"
)
