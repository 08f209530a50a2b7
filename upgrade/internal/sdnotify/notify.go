package sdnotify

import (
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

// The protocol of systemd's notify socket, as a service speaks it. systemd is one that listens; the other is the
// supervisor of this package. go-systemd reads the environment (package activation) and lends the words. Its SdNotify is
// not used: it carries no descriptors, and a manager that does not read blocks it without an end.
//
//	FDSTORE=1 FDNAME= FDPOLL=0      with a listening socket, to be kept for the time after a crash
//	READY=1 MAINPID= STATUS=        this generation is the service: at the start, at a commit, when it has taken one back
//	RELOADING=1 MONOTONIC_USEC=     an upgrade has begun
//	EXTEND_TIMEOUT_USEC=            it, or the start, takes its time
//	WATCHDOG=1                      the main generation's loop goes round
//	STOPPING=1, FDSTOREREMOVE=1     the service ends: what was kept is dropped
//
// To our own supervisor only, which systemd has no word for:
//
//	X_MIDAIR_CANDIDATE=1                     a candidate is there: its build is to be held, whatever becomes of it
//	X_MIDAIR_GENERATION= X_MIDAIR_VERSION=   with READY
//	X_MIDAIR_HANDED_OVER=1                   this generation will not take the service back any more
const (
	NotifyEnv     = "NOTIFY_SOCKET"
	SupervisorEnv = "MIDAIR_SUPERVISOR" // the pid of our own supervisor
	WatchdogEnv   = "WATCHDOG_USEC"

	WordReady, WordStopping  = daemon.SdNotifyReady, daemon.SdNotifyStopping
	wordReloading, WordAlive = daemon.SdNotifyReloading, daemon.SdNotifyWatchdog
	WordStore, WordRemove    = "FDSTORE=1", "FDSTOREREMOVE=1"
	WordName, WordPID        = "FDNAME=", "MAINPID="
	WordStatus, WordExtend   = "STATUS=", "EXTEND_TIMEOUT_USEC="
	WordCandidate            = "X_MIDAIR_CANDIDATE=1"
	WordGeneration           = "X_MIDAIR_GENERATION="
	WordVersion              = "X_MIDAIR_VERSION="
	WordHandedOver           = "X_MIDAIR_HANDED_OVER=1"
)

// How long one message may wait for a manager that does not read before it is tried again, how long the commit waits
// for the messages before it, and the end of a process for its last ones.
const (
	notifyTry   = 2 * time.Second
	notifyFlush = 500 * time.Millisecond // see settle
	notifyLast  = 2 * time.Second
)

// extendBy is how much more time extend asks for.
const extendBy = 30 * time.Second

// Notifier sends what a generation has to say, in order, from a goroutine of its own: a manager that is stopped must not
// stop the service. A nil notifier has nobody to talk to.
type Notifier struct {
	log        *slog.Logger
	addr       *net.UnixAddr
	supervised bool          // by this package's supervisor
	watchdog   time.Duration // how often the manager wants to hear from the main generation; 0: not
	env        []string      // what the next generation needs to do the same
	stored     nameSet

	stop chan struct{} // closed by close
	done chan struct{} // closed when the goroutine has ended

	deaf    bool // the last message did not get there; the goroutine's own
	mu      sync.Mutex
	queue   []note
	wake    chan struct{}
	sending *net.UnixConn
	closed  bool
}

// note is one message. Its file is closed when it was sent.
type note struct {
	text string
	file *os.File
	sent chan struct{} // closed then, if it is set
}

// New takes over what the environment says about the manager, and hides it from the processes that the program
// starts: each of them would speak for the service.
func New(log *slog.Logger) *Notifier {
	addr := os.Getenv(NotifyEnv)
	if addr == "" {
		return nil
	}
	n := &Notifier{
		log: log, addr: &net.UnixAddr{Name: addr, Net: "unixgram"}, supervised: IsSupervised(),
		stop: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if process.HasParent() { // the pid that it names is an older generation's
		os.Unsetenv("WATCHDOG_PID")
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("upgrade: cannot tell what watchdog there is", "err", err)
	}
	n.watchdog = watchdog
	for _, name := range []string{NotifyEnv, WatchdogEnv, SupervisorEnv} {
		if v, ok := os.LookupEnv(name); ok {
			n.env = append(n.env, name+"="+v)
		}
		os.Unsetenv(name)
	}
	os.Unsetenv("WATCHDOG_PID")
	go n.run() // ends with close
	return n
}

// Environ adds what a generation needs to go on with the conversation.
func (n *Notifier) Environ(env []string) []string {
	if n == nil {
		return env
	}
	return append(slices.Clone(n.env), env...) // the first of two counts
}

// Say sends one message of these lines.
func (n *Notifier) Say(lines ...string) { n.send(nil, lines...) }

func (n *Notifier) send(file *os.File, lines ...string) {
	if n == nil || !n.add(note{text: strings.Join(lines, "\n"), file: file}) {
		file.Close() // which does nothing without a file
	}
}

// add puts a message at the end of the queue, and tells whether there still is one.
func (n *Notifier) add(m note) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.queue = append(n.queue, m)
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return true
}

// flush waits until everything was sent that was said before, at most that long.
func (n *Notifier) flush(limit time.Duration) {
	if n == nil {
		return
	}
	sent := make(chan struct{})
	if !n.add(note{sent: sent}) {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-sent:
	case <-timer.C:
		n.log.Warn("upgrade: the service manager does not read what it is told", "after", limit)
	}
}

// Settle waits a moment until the manager has been told what was said before.
func (n *Notifier) Settle() { n.flush(notifyFlush) }

// Close sends what is left and ends the goroutine.
func (n *Notifier) Close() {
	if n == nil {
		return
	}
	n.flush(notifyLast)
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.stop)
		if n.sending != nil {
			n.sending.Close()
		}
	}
	n.mu.Unlock()
	<-n.done
}

func (n *Notifier) run() {
	defer close(n.done)
	defer n.drop()
	for {
		select {
		case <-n.wake:
		case <-n.stop:
			return
		}
		for m, ok := n.next(); ok; m, ok = n.next() {
			n.deliver(m)
		}
	}
}

func (n *Notifier) next() (note, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == 0 || n.closed {
		return note{}, false
	}
	m := n.queue[0]
	n.queue = n.queue[1:]
	return m, true
}

// drop forgets what cannot be sent any more.
func (n *Notifier) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.queue {
		m.file.Close()
	}
	n.queue = nil
}

// deliver sends a message, however long the manager is busy. One that is gone hears nothing.
func (n *Notifier) deliver(m note) {
	defer m.file.Close()
	if m.sent != nil {
		close(m.sent)
		return
	}
	for {
		err := n.try(m)
		if isTimeout(err) {
			continue
		}
		if err != nil && !n.deaf && !n.ended() { // once: a manager that is gone is gone for the next message too
			n.log.Warn("upgrade: cannot tell the service manager", "what", m.text, "err", err)
		}
		n.deaf = err != nil
		return
	}
}

func (n *Notifier) ended() bool {
	select {
	case <-n.stop:
		return true
	default:
		return false
	}
}

// WatchdogEvery is how often the manager wants to hear from the main generation; 0: it does not ask.
func (n *Notifier) WatchdogEvery() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Alive answers the watchdog, unless it has much to read already.
func (n *Notifier) Alive() {
	n.mu.Lock()
	behind := len(n.queue) > 16
	n.mu.Unlock()
	if !behind {
		n.Say(WordAlive)
	}
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// try dials anew for each message: a manager may have made its socket anew.
func (n *Notifier) try(m note) error {
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	n.mu.Lock()
	n.sending = c
	closed := n.closed
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.sending = nil
		n.mu.Unlock()
	}()
	if closed {
		return net.ErrClosed
	}
	if err := c.SetWriteDeadline(time.Now().Add(notifyTry)); err != nil {
		return err
	}
	return m.write(c)
}

// Ready says that this process is the service.
func (n *Notifier) Ready(generation int, version, status string) {
	if n == nil {
		return
	}
	lines := []string{WordReady, WordPID + strconv.Itoa(os.Getpid()), WordStatus + oneLine(status)}
	if n.supervised {
		lines = append(lines, WordGeneration+strconv.Itoa(generation), WordVersion+oneLine(version))
	}
	n.Say(lines...)
}

// Reloading says that an upgrade begins. systemd asks for the time: it tells this one from an earlier reload.
func (n *Notifier) Reloading(status string) {
	if n == nil {
		return
	}
	lines := []string{wordReloading}
	if usec := monotonicMicros(); usec > 0 {
		lines = append(lines, "MONOTONIC_USEC="+strconv.FormatInt(usec, 10))
	}
	n.Say(append(lines, extension(), WordStatus+oneLine(status))...)
}

func extension() string { return WordExtend + strconv.FormatInt(extendBy.Microseconds(), 10) }

// oneLine makes a text fit for a value: a line break would begin another assignment.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// ReadyFor says that another process is the service, for one that knows nothing of the manager.
func (n *Notifier) ReadyFor(pid int, status string) {
	if n != nil {
		n.Say(WordReady, WordPID+strconv.Itoa(pid), WordStatus+oneLine(status))
	}
}

// HandedOver says that this generation only drains.
func (n *Notifier) HandedOver() {
	if n != nil && n.supervised {
		n.Say(WordHandedOver)
	}
}

// Stopping says that the service ends, and drops what is kept: connections that nobody will accept are to be refused and
// not to queue.
func (n *Notifier) Stopping(reason string) {
	if n == nil {
		return
	}
	n.Say(WordStopping, WordStatus+oneLine("stopping: "+reason))
	for _, name := range n.Names() {
		n.Remove(name)
	}
}

// Extend asks for more time, for a start or an upgrade.
func (n *Notifier) Extend() { n.Say(extension()) }

// Introduce says that this process may become the service.
func (n *Notifier) Introduce(version string) {
	if n != nil && n.supervised {
		n.Say(WordCandidate, WordVersion+oneLine(version))
	}
}

// Store has a socket kept. The file is closed.
func (n *Notifier) Store(name string, file *os.File) {
	if n == nil {
		file.Close()
		return
	}
	n.stored.add(name)
	n.send(file, WordStore, WordName+name, "FDPOLL=0") // a socket that hangs up is still wanted
}

// Forget has something removed that another generation may have had kept.
func (n *Notifier) Forget(name string) { n.Say(WordRemove, WordName+name) }

// Remove has it forgotten.
func (n *Notifier) Remove(name string) {
	if n != nil && n.stored.remove(name) {
		n.Say(WordRemove, WordName+name)
	}
}

// nameSet is the set of names under which sockets are kept.
type nameSet struct {
	mu  sync.Mutex
	all []string
}

func (s *nameSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.all, name) {
		s.all = append(s.all, name)
	}
}

func (s *nameSet) remove(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.all)
	s.all = slices.DeleteFunc(s.all, func(o string) bool { return o == name })
	return len(s.all) < n
}

func (s *nameSet) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// Names lists what is kept.
func (n *Notifier) Names() []string {
	if n == nil {
		return nil
	}
	return n.stored.list()
}
