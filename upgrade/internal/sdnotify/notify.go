// Package sdnotify sends messages to the service manager in systemd's notify protocol. The manager is systemd or the library's
// supervisor.
//
//	words.go       the words of the protocol, in both directions
//	notify.go      Notifier: sends the messages of a generation
//	channel.go     the channel to the supervisor, and its messages to this process
//	message.go     Message: a message on the channel
//	passed.go      the sockets that the supervisor sends to a process that it starts
//	queue.go       the queue of a Notifier: sends in order, and the caller does not wait for a manager that does not read
//	endings.go     how candidates have ended
//	stored.go      which sockets the manager keeps, and how an Activation finds a passed socket by its name
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

const (
	// notifyTry is how long one try to send a message waits if the manager does not read. Then the Notifier tries again.
	notifyTry = 2 * time.Second
	// notifyFlush is how long Settle waits at most until the messages in the queue are sent.
	notifyFlush = 500 * time.Millisecond
	// notifyLast is the same for Close.
	notifyLast = 2 * time.Second
)

// extendBy is how much more time Extend and Reloading ask the manager for.
const extendBy = 30 * time.Second

// managerKind is the kind of service manager that a process has.
type managerKind uint8

const (
	otherManager      managerKind = iota // systemd, or another manager with a notify socket
	ownSupervisor                        // the library's supervisor
	cleanedSupervisor                    // the library's supervisor, whose variables a wrapper has removed: it keeps no sockets
	lostSupervisor                       // the library's supervisor, which died before this process began: there is no channel
)

// supervises reports whether the manager is the library's supervisor, running or ended.
func (m managerKind) supervises() bool { return m != otherManager }

// Notifier sends the messages of a generation to the service manager, in order. A goroutine does the sending, so that the
// service does not wait for a manager that does not read. If there is no manager, the Notifier is nil.
type Notifier struct {
	log      *slog.Logger
	manager  managerKind
	addr     *net.UnixAddr // address of the notify socket; nil if the manager is the library's supervisor
	channel  *net.UnixConn // this process's end of its channel to the supervisor; nil: there is none, or none yet
	attached chan struct{} // closed when messages can be sent
	heard    chan Message  // see Heard
	deafened chan struct{} // closed when listen has returned; nil without a channel
	endings  endings
	given    given         // what attach has received from the supervisor
	problem  error         // why no upgrade may begin; nil if there is no reason
	watchdog time.Duration // the manager expects a message of the main generation this often; 0: there is no watchdog
	env      []string      // variables that the next generation needs to send messages to the manager
	stored   nameSet

	stop chan struct{} // closed by Close
	done chan struct{} // closed when the goroutine has ended

	deaf    bool // the last message could not be sent; only the goroutine uses this field
	mu      sync.Mutex
	queue   []note
	wake    chan struct{}
	sending *net.UnixConn
}

// New returns a Notifier, or nil if there is no manager. New removes the manager's variables from the environment, so that no
// child process of the program sends messages for the service.
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
	if process.HasParent() { // WATCHDOG_PID is the pid of an older generation
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

// hide removes the manager's variables from the environment. The variables that the next generation needs are kept in n.env.
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

// IsSystemd reports whether systemd has started this process, as the first process of the service. If so, a candidate should
// become a child of systemd too, because systemd learns of the end of the main process only if the main process is its child.
// systemd waits for each of its children, even if another process has started the child. Other managers with a notify socket
// perhaps do not wait for such a child.
func (n *Notifier) IsSystemd() bool {
	return n != nil && !n.manager.supervises() && (os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()) || process.ParentName() == "systemd")
}

// Environ adds to env the variables that the next generation needs to send messages to the manager.
func (n *Notifier) Environ(env []string) []string {
	if n == nil {
		return env
	}
	own := slices.Clone(n.env)
	if n.manager.supervises() && !n.Supervised() { // the supervisor has ended, so the next generation cannot be announced
		own = slices.DeleteFunc(own, func(v string) bool { return strings.HasPrefix(v, SupervisedEnv+"=") })
		own = append(own, SupervisedEnv+"="+supervisorDead)
	}
	return append(own, env...) // own comes first: of two values of a variable the first is used
}

// Say sends a message that consists of these lines.
func (n *Notifier) Say(lines ...string) { n.send(nil, lines...) }

// WatchdogEvery returns the longest time allowed between two messages of the main generation; 0: the manager has no watchdog.
func (n *Notifier) WatchdogEvery() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Alive sends the watchdog message, unless more than 16 messages are in the queue already.
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

// Ready reports that this process is the service.
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

// Reloading reports the beginning of an upgrade. The message has the time, because systemd uses it to distinguish this reload
// from an earlier reload.
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

// oneLine replaces the line breaks in a text, because a new line would be another assignment in the message.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// ReadyFor reports that another process is the service. ReadyFor is for a process that sends no such report itself.
func (n *Notifier) ReadyFor(pid int, status string) {
	if n != nil {
		n.Say(WordReady, WordPID+strconv.Itoa(pid), WordStatus+oneLine(status))
	}
}

// Status sends a status text for people.
func (n *Notifier) Status(text string) { n.Say(WordStatus + oneLine(text)) }

// Name reports that another process is the main process, and waits until the report was sent. Later messages must come from the
// other process, because systemd perhaps accepts messages of the main process only. After the time due the report may be wrong,
// so it is not sent any more.
func (n *Notifier) Name(pid int, due time.Time) error {
	return n.sendNow(time.Until(due), nil, WordPID+strconv.Itoa(pid))
}

// Barrier waits until the manager has read all messages sent so far, at most until the time due. Barrier sends a message with a
// descriptor, which the manager closes when it has read the message. systemd before version 246 does not know the message, and
// closes the descriptor as well.
func (n *Notifier) Barrier(due time.Time) {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	defer r.Close()
	if n.sendNow(time.Until(due), []*os.File{w}, wordBarrier) == nil && r.SetReadDeadline(due) == nil {
		_, _ = r.Read(make([]byte, 1)) // returns when the manager has closed its copy of w: no process writes to the pipe
	}
}

// Committing reports that this process is about to send the commit message. If the error is nil, the supervisor receives the
// report even if this process ends. After an error, the supervisor does not receive the report. Committing waits at most five seconds for a supervisor that does not read.
func (n *Notifier) Committing() error {
	if !n.Supervised() {
		return nil
	}
	if err := n.sendNow(announceLimit, nil, WordCommitting); err != nil && n.Supervised() {
		return fmt.Errorf("the supervisor cannot be told of the commit: %w", err)
	}
	return nil // if the supervisor has ended, the report is not needed
}

// Orphaned reports that the old process has died before it committed this candidate.
func (n *Notifier) Orphaned(version string) { n.Say(WordOrphan, WordVersion+oneLine(version)) }

// HandedOver reports that this generation is no longer the service, and only finishes its connections.
func (n *Notifier) HandedOver() {
	if n != nil && n.manager.supervises() {
		n.Say(WordHandedOver)
	}
}

// Stopping reports the end of the service. Stopping also makes the library's supervisor drop the kept sockets, so that new
// connections are refused and do not wait in a queue for ever. systemd itself keeps the sockets for a restart, and drops them
// at a stop.
func (n *Notifier) Stopping(reason string) {
	if n == nil {
		return
	}
	n.Say(WordStopping, WordStatus+oneLine("stopping: "+reason))
	if !n.manager.supervises() {
		return
	}
	for _, name := range n.Names() {
		n.Remove(name)
	}
}

// Extend asks the manager for 30 seconds more, for a start or an upgrade.
func (n *Notifier) Extend() { n.Say(extension()) }

// Store makes the manager keep a socket under a name. Store closes the file.
func (n *Notifier) Store(name string, file *os.File) {
	if n == nil || n.manager == cleanedSupervisor {
		file.Close()
		return
	}
	n.stored.add(name)
	n.send(file, WordStore, WordName+name, "FDPOLL=0") // FDPOLL=0: the manager keeps the socket even if poll reports a hang-up
}

// Forget makes the manager drop a socket that perhaps another generation has stored.
func (n *Notifier) Forget(name string) { n.Say(WordRemove, WordName+name) }

// Remove makes the manager drop a socket that this process has stored.
func (n *Notifier) Remove(name string) {
	if n != nil && n.stored.remove(name) {
		n.Say(WordRemove, WordName+name)
	}
}

// Names returns the names of the sockets that this process has stored.
func (n *Notifier) Names() []string {
	if n == nil {
		return nil
	}
	return n.stored.list()
}
