// Package sdnotify talks to the service manager: systemd, or the supervisor of this library, in systemd's notify protocol.
//
//	words.go       the words, in both directions
//	notify.go      Notifier: what a generation has to say
//	channel.go     the channel to the supervisor, and what comes on it
//	message.go     what is said at once
//	passed.go      the sockets that the supervisor gives to a process that it starts
//	queue.go       how it gets there: in order, and without waiting for a manager that does not read
//	endings.go     how candidates have ended
//	stored.go      which sockets the manager keeps
//	activation.go  Activation: the sockets that the manager has passed
package sdnotify

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/midair-go/midair/internal/process"
)

// How long a message may wait for a manager that does not read before the next try, how long the commit waits for the messages before
// it, and the end of a process for its last messages.
const (
	notifyTry   = 2 * time.Second
	notifyFlush = 500 * time.Millisecond // see Settle
	notifyLast  = 2 * time.Second
)

// extendBy is how much more time Extend asks for.
const extendBy = 30 * time.Second

// managerKind is the service manager of a process.
type managerKind uint8

const (
	otherManager      managerKind = iota // systemd, or another one with a notify socket
	ownSupervisor                        // this library's
	cleanedSupervisor                    // the same, and a wrapper has cleaned the environment: what the supervisor keeps would not be found again
	lostSupervisor                       // the same, and it had ended before this process was started, which has no channel
)

// supervises reports whether the manager is this library's supervisor, dead or alive.
func (m managerKind) supervises() bool { return m != otherManager }

// Notifier sends the messages of a generation, in order, from a goroutine of its own: a stopped manager must not stop the
// service. A nil notifier has no manager.
type Notifier struct {
	log      *slog.Logger
	manager  managerKind
	addr     *net.UnixAddr // of the notify socket; nil with this library's supervisor
	channel  *net.UnixConn // to the supervisor; nil until attached is closed
	attached chan struct{} // closed when messages can go out
	heard    chan Message  // see Heard
	deafened chan struct{} // closed when nobody listens to the channel any more; nil without a channel
	endings  endings
	given    given         // with the channel
	problem  error         // why no upgrade may begin; nil: nothing
	watchdog time.Duration // how often the manager wants to hear from the main generation; 0: not
	env      []string      // what the next generation needs to do the same
	stored   nameSet

	stop chan struct{} // closed by Close
	done chan struct{} // closed when the goroutine has ended

	deaf    bool // the last message did not get there; the goroutine's own
	mu      sync.Mutex
	queue   []note
	wake    chan struct{}
	sending *net.UnixConn
}

// New takes the variables of the manager out of the environment, so that the processes of the program cannot speak for the
// service. It returns nil if there is no manager.
func New(log *slog.Logger) *Notifier {
	n := blank(log)
	addr := os.Getenv(NotifyEnv)
	switch {
	case IsSupervised():
		n.manager = ownSupervisor
		n.findChannel()
	case addr != "":
		n.addr = &net.UnixAddr{Name: addr, Net: "unixgram"}
		close(n.attached)
	default:
		hide(nil)
		return nil
	}
	ownOutside(os.Getpid())
	if process.HasParent() { // the pid that it names is an older generation's
		os.Unsetenv(watchdogPID)
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("upgrade: cannot tell what watchdog there is", "err", err)
	}
	n.watchdog = watchdog
	hide(n)
	go n.run() // ends with Close
	return n
}

func blank(log *slog.Logger) *Notifier {
	return &Notifier{
		log: log, attached: make(chan struct{}), heard: make(chan Message),
		stop: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// hide takes the variables for this process only out of the environment. The variables for the next generation go to n.
func hide(n *Notifier) {
	for _, name := range []string{NotifyEnv, WatchdogEnv} {
		if v, ok := os.LookupEnv(name); ok && n != nil && !(name == NotifyEnv && n.manager.supervises()) {
			n.env = append(n.env, name+"="+v)
		}
		os.Unsetenv(name)
	}
	if n != nil && n.manager.supervises() {
		n.env = append(n.env, SupervisedEnv+"=1")
	}
	for _, name := range []string{SupervisedEnv, ChannelEnv, SocketsEnv, watchdogPID} {
		os.Unsetenv(name)
	}
}

// IsSystemd reports whether systemd has started this process, the first of the service. systemd waits for all its children,
// also if another process has started them, but learns of the end of the main process only if the main process is its child.
// Other managers with a notify socket may not wait.
func (n *Notifier) IsSystemd() bool {
	return n != nil && !n.manager.supervises() && (os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()) || process.ParentName() == "systemd")
}

// Environ adds the variables by which the next generation talks to the manager.
func (n *Notifier) Environ(env []string) []string {
	if n == nil {
		return env
	}
	own := slices.Clone(n.env)
	if n.manager.supervises() && !n.Supervised() { // nobody can announce the next generation
		own = slices.DeleteFunc(own, func(v string) bool { return strings.HasPrefix(v, SupervisedEnv+"=") })
		own = append(own, SupervisedEnv+"="+supervisorDead)
	}
	return append(own, env...) // the first of two counts
}

// Say sends a message of these lines.
func (n *Notifier) Say(lines ...string) { n.send(nil, lines...) }

// WatchdogEvery is the longest time between two messages of the main generation; 0: the manager has no watchdog.
func (n *Notifier) WatchdogEvery() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Alive answers the watchdog, unless the manager has much to read already.
func (n *Notifier) Alive() {
	if n == nil {
		return
	}
	n.mu.Lock()
	behind := len(n.queue) > 16
	n.mu.Unlock()
	if !behind {
		n.Say(WordAlive)
	}
}

// Ready reports this process to be the service.
func (n *Notifier) Ready(generation int, version, status string) {
	if n == nil {
		return
	}
	lines := []string{WordReady, WordPID + strconv.Itoa(os.Getpid()), WordStatus + oneLine(status)}
	if n.manager.supervises() {
		lines = append(lines, WordGeneration+strconv.Itoa(generation), WordVersion+oneLine(version))
	}
	n.Say(lines...)
}

// Reloading reports the begin of an upgrade. systemd asks for the time, to distinguish the upgrade from an earlier reload.
func (n *Notifier) Reloading(status string) {
	if n == nil {
		return
	}
	lines := []string{WordReloading}
	if usec := monotonicMicros(); usec > 0 {
		lines = append(lines, WordMonotonic+strconv.FormatInt(usec, 10))
	}
	n.Say(append(lines, extension(), WordStatus+oneLine(status))...)
}

func extension() string { return WordExtend + strconv.FormatInt(extendBy.Microseconds(), 10) }

// oneLine makes a text fit for a value: a line break would begin another assignment.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// ReadyFor reports another process to be the service, for a process without a notifier.
func (n *Notifier) ReadyFor(pid int, status string) {
	if n != nil {
		n.Say(WordReady, WordPID+strconv.Itoa(pid), WordStatus+oneLine(status))
	}
}

// Status sends the status for people.
func (n *Notifier) Status(text string) { n.Say(WordStatus + oneLine(text)) }

// Name reports another process to be the main one, which sends all further messages: systemd may accept messages of the main
// process only. After due the message is not sent any more, as it may be wrong by then. Name waits until the message was sent.
func (n *Notifier) Name(pid int, due time.Time) error {
	m := note{text: WordPID + strconv.Itoa(pid), due: due, sent: make(chan error, 1)}
	return n.put(time.Until(due), m)
}

// Barrier waits until the manager has read the messages so far, at most until due: the manager then closes the descriptor in
// the message. An older systemd, before version 246, closes the descriptor as well.
func (n *Notifier) Barrier(due time.Time) {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	defer r.Close()
	if n.sendNow(time.Until(due), []*os.File{w}, wordBarrier) == nil && r.SetReadDeadline(due) == nil {
		_, _ = r.Read(make([]byte, 1)) // nothing is written: it ends
	}
}

// Committing reports that the commit message is about to be sent. After a nil error the report outlives this process.
// Committing waits for a supervisor that does not read, at most five seconds.
func (n *Notifier) Committing() error {
	if !n.Supervised() {
		return nil
	}
	if err := n.sendNow(announceLimit, nil, WordCommitting); err != nil && n.Supervised() {
		return fmt.Errorf("the supervisor cannot be told of the commit: %w", err)
	}
	return nil // one that has ended needs not to know
}

// Orphaned reports the death of the old process before the commit of this candidate.
func (n *Notifier) Orphaned(version string) { n.Say(WordOrphan, WordVersion+oneLine(version)) }

// HandedOver reports that this generation only drains.
func (n *Notifier) HandedOver() {
	if n != nil && n.manager.supervises() {
		n.Say(WordHandedOver)
	}
}

// Stopping reports the end of the service, and drops the kept sockets: connections are to be refused, and not to wait in a
// queue for ever.
func (n *Notifier) Stopping(reason string) {
	if n == nil {
		return
	}
	n.Say(WordStopping, WordStatus+oneLine("stopping: "+reason))
	if !n.manager.supervises() { // systemd knows whether it starts the service again: it keeps the sockets for a restart, and drops them at a stop
		return
	}
	for _, name := range n.Names() {
		n.Remove(name)
	}
}

// Extend asks for more time, for a start or an upgrade.
func (n *Notifier) Extend() { n.Say(extension()) }

// Store has a socket kept, and closes the file.
func (n *Notifier) Store(name string, file *os.File) {
	if n == nil || n.manager == cleanedSupervisor {
		file.Close()
		return
	}
	n.stored.add(name)
	n.send(file, WordStore, WordName+name, "FDPOLL=0") // a socket that hangs up is still wanted
}

// Forget removes a socket from the store that another generation may have put there.
func (n *Notifier) Forget(name string) { n.Say(WordRemove, WordName+name) }

// Remove removes a socket from the store.
func (n *Notifier) Remove(name string) {
	if n != nil && n.stored.remove(name) {
		n.Say(WordRemove, WordName+name)
	}
}

// Names lists the kept sockets.
func (n *Notifier) Names() []string {
	if n == nil {
		return nil
	}
	return n.stored.list()
}
