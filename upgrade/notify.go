package upgrade

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
	notifyEnv     = "NOTIFY_SOCKET"
	supervisorEnv = "MIDAIR_SUPERVISOR" // the pid of our own supervisor
	watchdogEnv   = "WATCHDOG_USEC"

	wordReady, wordStopping  = daemon.SdNotifyReady, daemon.SdNotifyStopping
	wordReloading, wordAlive = daemon.SdNotifyReloading, daemon.SdNotifyWatchdog
	wordStore, wordRemove    = "FDSTORE=1", "FDSTOREREMOVE=1"
	wordName, wordPID        = "FDNAME=", "MAINPID="
	wordStatus, wordExtend   = "STATUS=", "EXTEND_TIMEOUT_USEC="
	wordCandidate            = "X_MIDAIR_CANDIDATE=1"
	wordGeneration           = "X_MIDAIR_GENERATION="
	wordVersion              = "X_MIDAIR_VERSION="
	wordHandedOver           = "X_MIDAIR_HANDED_OVER=1"
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

// notifier sends what a generation has to say, in order, from a goroutine of its own: a manager that is stopped must not
// stop the service. A nil notifier has nobody to talk to.
type notifier struct {
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

// newNotifier takes over what the environment says about the manager, and hides it from the processes that the program
// starts: each of them would speak for the service.
func newNotifier(log *slog.Logger) *notifier {
	addr := os.Getenv(notifyEnv)
	if addr == "" {
		return nil
	}
	n := &notifier{
		log: log, addr: &net.UnixAddr{Name: addr, Net: "unixgram"}, supervised: isSupervised(),
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
	for _, name := range []string{notifyEnv, watchdogEnv, supervisorEnv} {
		if v, ok := os.LookupEnv(name); ok {
			n.env = append(n.env, name+"="+v)
		}
		os.Unsetenv(name)
	}
	os.Unsetenv("WATCHDOG_PID")
	go n.run() // ends with close
	return n
}

// environ adds what a generation needs to go on with the conversation.
func (n *notifier) environ(env []string) []string {
	if n == nil {
		return env
	}
	return append(slices.Clone(n.env), env...) // the first of two counts
}

// say sends one message of these lines.
func (n *notifier) say(lines ...string) { n.send(nil, lines...) }

func (n *notifier) send(file *os.File, lines ...string) {
	if n == nil || !n.add(note{text: strings.Join(lines, "\n"), file: file}) {
		file.Close() // which does nothing without a file
	}
}

// add puts a message at the end of the queue, and tells whether there still is one.
func (n *notifier) add(m note) bool {
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
func (n *notifier) flush(limit time.Duration) {
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

// settle waits a moment until the manager has been told what was said before.
func (n *notifier) settle() { n.flush(notifyFlush) }

// close sends what is left and ends the goroutine.
func (n *notifier) close() {
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

func (n *notifier) run() {
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

func (n *notifier) next() (note, bool) {
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
func (n *notifier) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.queue {
		m.file.Close()
	}
	n.queue = nil
}

// deliver sends a message, however long the manager is busy. One that is gone hears nothing.
func (n *notifier) deliver(m note) {
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

func (n *notifier) ended() bool {
	select {
	case <-n.stop:
		return true
	default:
		return false
	}
}

// watchdogEvery is how often the manager wants to hear from the main generation; 0: it does not ask.
func (n *notifier) watchdogEvery() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// alive answers the watchdog, unless it has much to read already.
func (n *notifier) alive() {
	n.mu.Lock()
	behind := len(n.queue) > 16
	n.mu.Unlock()
	if !behind {
		n.say(wordAlive)
	}
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// try dials anew for each message: a manager may have made its socket anew.
func (n *notifier) try(m note) error {
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

// ready says that this process is the service.
func (n *notifier) ready(generation int, version, status string) {
	if n == nil {
		return
	}
	lines := []string{wordReady, wordPID + strconv.Itoa(os.Getpid()), wordStatus + oneLine(status)}
	if n.supervised {
		lines = append(lines, wordGeneration+strconv.Itoa(generation), wordVersion+oneLine(version))
	}
	n.say(lines...)
}

// reloading says that an upgrade begins. systemd asks for the time: it tells this one from an earlier reload.
func (n *notifier) reloading(status string) {
	if n == nil {
		return
	}
	lines := []string{wordReloading}
	if usec := monotonicMicros(); usec > 0 {
		lines = append(lines, "MONOTONIC_USEC="+strconv.FormatInt(usec, 10))
	}
	n.say(append(lines, extension(), wordStatus+oneLine(status))...)
}

func extension() string { return wordExtend + strconv.FormatInt(extendBy.Microseconds(), 10) }

// oneLine makes a text fit for a value: a line break would begin another assignment.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// readyFor says that another process is the service, for one that knows nothing of the manager.
func (n *notifier) readyFor(pid int, status string) {
	if n != nil {
		n.say(wordReady, wordPID+strconv.Itoa(pid), wordStatus+oneLine(status))
	}
}

// handedOver says that this generation only drains.
func (n *notifier) handedOver() {
	if n != nil && n.supervised {
		n.say(wordHandedOver)
	}
}

// stopping says that the service ends, and drops what is kept: connections that nobody will accept are to be refused and
// not to queue.
func (n *notifier) stopping(reason string) {
	if n == nil {
		return
	}
	n.say(wordStopping, wordStatus+oneLine("stopping: "+reason))
	for _, name := range n.names() {
		n.remove(name)
	}
}

// extend asks for more time, for a start or an upgrade.
func (n *notifier) extend() { n.say(extension()) }

// introduce says that this process may become the service.
func (n *notifier) introduce(version string) {
	if n != nil && n.supervised {
		n.say(wordCandidate, wordVersion+oneLine(version))
	}
}

// store has a socket kept. The file is closed.
func (n *notifier) store(name string, file *os.File) {
	if n == nil {
		file.Close()
		return
	}
	n.stored.add(name)
	n.send(file, wordStore, wordName+name, "FDPOLL=0") // a socket that hangs up is still wanted
}

// forget has something removed that another generation may have had kept.
func (n *notifier) forget(name string) { n.say(wordRemove, wordName+name) }

// remove has it forgotten.
func (n *notifier) remove(name string) {
	if n != nil && n.stored.remove(name) {
		n.say(wordRemove, wordName+name)
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

// names lists what is kept.
func (n *notifier) names() []string {
	if n == nil {
		return nil
	}
	return n.stored.list()
}
