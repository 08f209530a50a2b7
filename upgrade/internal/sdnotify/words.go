package sdnotify

import "github.com/coreos/go-systemd/v22/daemon"

// The messages of systemd's notify protocol that a service sends, to systemd or to the supervisor of the library. From
// go-systemd this package uses constants and the functions that read the environment. SdNotify of go-systemd is not used,
// because it cannot send descriptors, and waits without a limit for a manager that does not read.
//
//	FDSTORE=1 FDNAME= FDPOLL=0      with a listening socket, which the manager keeps for a restart after a crash
//	READY=1 MAINPID= STATUS=        this generation is the service: sent at the start, at a commit, and after a failed upgrade
//	RELOADING=1 MONOTONIC_USEC=     an upgrade has begun
//	EXTEND_TIMEOUT_USEC=            the upgrade, or the start, takes longer
//	BARRIER=1                       with a descriptor, which the manager closes when it has read all messages before this one
//	WATCHDOG=1                      the loop of the main generation runs
//	STOPPING=1                      the service ends
//	FDSTOREREMOVE=1                 a socket was closed; also sent to the library's supervisor at a stop
//
// The following messages go only to the library's supervisor, over the channel of the generation (see channel.go). systemd does
// not know these messages.
//
//	X_MIDAIR_CANDIDATE=1                     a candidate was started: with its pidfd, its channel, its executable and a file
//	                                         with its arguments and environment
//	X_MIDAIR_GENERATION= X_MIDAIR_VERSION=   with READY
//	X_MIDAIR_HANDED_OVER=1                   this generation has handed over, and will not be the service again
//	X_MIDAIR_COMMITTING=1                    this generation is about to send the commit message to its candidate
//	X_MIDAIR_ORPHAN=1                        this candidate is an orphan (see below)
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

// The messages of the supervisor to a generation, on the channel of the generation. A process that the supervisor has started
// gets the sockets first; the first message is sent before the process is executed. Later messages report the ends of the
// candidates that the generation has announced, or are about an orphan. An orphan is a candidate whose old process has died
// before the candidate received the commit message.
//
//	X_MIDAIR_SOCKETS=1     with descriptors, and a line FDNAME= for each. The generation answers X_MIDAIR_RECEIVED=1 if there
//	                       are more sockets: the kernel limits how many descriptors of a user wait in sockets
//	X_MIDAIR_ENDED=        the candidate with this pid has ended; with STATUS=
//	X_MIDAIR_CONFIRMED=1   to an orphan: the orphan is the service
//	X_MIDAIR_SUCCESSOR=1   to an orphan: a new process of the committed build is started; with a control socket to the new
//	                       process. The new process aborts the orphan as soon as the new process serves
//	X_MIDAIR_ORPHAN=1      to the new process: an orphan lives; with an end of the control socket, and the orphan's
//	                       MAINPID=, X_MIDAIR_GENERATION= and X_MIDAIR_VERSION=
//	X_MIDAIR_BROADCAST=1   to a process that the supervisor starts after a crash, and to each other generation: with the
//	                       broadcast socket between the two, and MAINPID= and X_MIDAIR_GENERATION= of the other process. There
//	                       is no pid of a process that is not executed yet
const (
	WordSockets   = "X_MIDAIR_SOCKETS=1"
	WordReceived  = "X_MIDAIR_RECEIVED=1"
	WordOrphan    = "X_MIDAIR_ORPHAN=1"
	WordEnded     = "X_MIDAIR_ENDED="
	WordConfirmed = "X_MIDAIR_CONFIRMED=1"
	WordSuccessor = "X_MIDAIR_SUCCESSOR=1"
	WordBroadcast = "X_MIDAIR_BROADCAST=1"
)
