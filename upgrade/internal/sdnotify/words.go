package sdnotify

import "github.com/coreos/go-systemd/v22/daemon"

// The protocol of systemd's notify socket, as a service speaks it: to systemd, or to the supervisor of this library. go-systemd
// reads the environment (package activation) and lends the words. go-systemd's SdNotify is not used: it carries no descriptors, and
// a manager that does not read blocks the call without an end.
//
//	FDSTORE=1 FDNAME= FDPOLL=0      with a listening socket, to be kept for the time after a crash
//	READY=1 MAINPID= STATUS=        this generation is the service: at the start, at a commit, after a candidate was taken back
//	RELOADING=1 MONOTONIC_USEC=     an upgrade has begun
//	EXTEND_TIMEOUT_USEC=            the upgrade, or the start, takes longer
//	BARRIER=1                       with a descriptor: are the messages before it read?
//	WATCHDOG=1                      the main generation's loop runs
//	STOPPING=1                      the service ends
//	FDSTOREREMOVE=1                 a socket was closed; to this library's supervisor at a stop too
//
// To this library's supervisor only, over the channel of the generation (see channel.go), without a word of systemd:
//
//	X_MIDAIR_CANDIDATE=1                     a candidate was started: with its pidfd, its channel, its executable and a file
//	                                         with its arguments and environment
//	X_MIDAIR_GENERATION= X_MIDAIR_VERSION=   with READY
//	X_MIDAIR_HANDED_OVER=1                   this generation will not take the service back any more
//	X_MIDAIR_COMMITTING=1                    this generation is about to send the commit message: its candidate may be the service
//	X_MIDAIR_ORPHAN=1                        see below
const (
	NotifyEnv   = "NOTIFY_SOCKET"
	WatchdogEnv = "WATCHDOG_USEC"
	watchdogPID = "WATCHDOG_PID"

	WordReady, WordStopping  = daemon.SdNotifyReady, daemon.SdNotifyStopping
	WordReloading, WordAlive = daemon.SdNotifyReloading, daemon.SdNotifyWatchdog
	WordMonotonic            = "MONOTONIC_USEC="
	wordBarrier              = "BARRIER=1"
	WordStore, WordRemove    = "FDSTORE=1", "FDSTOREREMOVE=1"
	WordName, WordPID        = "FDNAME=", "MAINPID="
	WordStatus, WordExtend   = "STATUS=", "EXTEND_TIMEOUT_USEC="
	WordCandidate            = "X_MIDAIR_CANDIDATE=1"
	WordGeneration           = "X_MIDAIR_GENERATION="
	WordVersion              = "X_MIDAIR_VERSION="
	WordCommitting           = "X_MIDAIR_COMMITTING=1"
	WordHandedOver           = "X_MIDAIR_HANDED_OVER=1"
)

// The supervisor's messages to a generation on its channel. A new process gets the sockets; the first message waits in the channel
// before the generation is executed. Later come the ends of the candidates that the generation has announced, and messages about an
// orphan: a candidate whose old process has died before the candidate received the commit message.
//
//	X_MIDAIR_SOCKETS=1     with descriptors, and a line FDNAME= for each. The generation answers X_MIDAIR_RECEIVED=1 if more are
//	                       to come: the kernel limits what a user has on the way
//	X_MIDAIR_ENDED=        a candidate has ended, by its pid; with STATUS=
//	X_MIDAIR_CONFIRMED=1   to an orphan: the orphan is the service
//	X_MIDAIR_SUCCESSOR=1   to an orphan: the committed build is started; with a control socket to the new process, which
//	                       sends the orphan away when the new process serves
//	X_MIDAIR_ORPHAN=1      to the new process, with the other end: MAINPID=, X_MIDAIR_GENERATION= and X_MIDAIR_VERSION= are the
//	                       orphan's. From a generation: the sender is an orphan
const (
	WordSockets   = "X_MIDAIR_SOCKETS=1"
	WordReceived  = "X_MIDAIR_RECEIVED=1"
	WordOrphan    = "X_MIDAIR_ORPHAN=1"
	WordEnded     = "X_MIDAIR_ENDED="
	WordConfirmed = "X_MIDAIR_CONFIRMED=1"
	WordSuccessor = "X_MIDAIR_SUCCESSOR=1"
)
