package upgrade

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The messages of a generation to the service manager. The goroutine of Run queues the messages in this file, with one
// exception: when the program opens or closes a socket while it serves, the program's goroutine queues the message about the
// socket.

// extendEvery is how often a start or an upgrade asks for more time.
const extendEvery = 10 * time.Second

// watchers has the names of programs that watch only the process that they have started. The text after a name is what the
// program does when that process ends.
var watchers = map[string]string{
	"tini": "ends with", "tini-static": "ends with", "docker-init": "ends with", "dumb-init": "ends with", "catatonit": "ends with",
	"runsv": "starts another copy after", "s6-supervise": "starts another copy after", "supervise": "starts another copy after",
	"supervisord": "starts another copy after",
}

// unmanageable returns the reason why this process cannot be upgraded under the program that has started it, or under the
// service manager. It returns nil if no reason is known.
func unmanageable(starter string, manager *sdnotify.Notifier) error {
	switch does := watchers[starter]; {
	case manager.SupervisorState() != "":
	case manager == nil && os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()):
		return errors.New("systemd takes the end of this process for the end of the service, since its unit is Type=simple or exec: " +
			"call upgrade.Supervise, or use Type=notify-reload or Type=notify")
	case os.Getpid() == 1:
		return errors.New("the end of process 1 is the end of the container: call upgrade.Supervise")
	case does != "" && manager == nil:
		return fmt.Errorf("%s has started this process, and %s the end of it: call upgrade.Supervise", starter, does)
	}
	return manager.Problem()
}

// naming is the wait of a new main generation until the old process has named it to systemd (see nameWait). In the zero value
// no wait is under way.
type naming struct {
	due   <-chan time.Time // the time at which the wait ends without a message of the old process; nil: no wait is under way
	since time.Duration    // the begin of the wait, by sys.Uptime; 0: there was no wait
}

// begin begins to wait.
func (n *naming) begin() {
	n.since = sys.Uptime()
	n.due = time.After(nameWait)
}

// waits reports whether the wait goes on.
func (n *naming) waits() bool { return n.due != nil }

// end ends the wait, and reports whether a wait was under way.
func (n *naming) end() bool {
	waited := n.waits()
	n.due = nil
	return waited
}

// announcer sends the messages of this generation to the service manager.
type announcer struct {
	estate  *estate
	origin  *origin
	version string
	passed  *sdnotify.Activation // the sockets that the service manager has passed to this process
	stored  []string             // the names of the sockets that the manager keeps for the old process; nil after forgetSockets
	unwatch func()               // ends the metric about the supervisor
	said    bool                 // the end of the service was announced
}

// text returns the status text that the service manager shows, for example in systemctl status.
func (a *announcer) text() string {
	return fmt.Sprintf("serving, generation %d, version %s", a.origin.generation, a.version)
}

// announce queues the messages that make this generation the service: the manager keeps the sockets of this generation, and
// forgets other sockets. announce does not wait until the messages are sent: telling.send waits. announce returns sockets that
// the manager is asked to forget. These sockets must not be emptied before the messages are sent.
//
// The message serving is sent to the old process later. If this process dies before it has sent serving, the old process serves
// on, announces itself again, and needs all of its sockets in the manager. So if later is true, announce leaves two kinds of
// messages to keepRest: to keep the sockets that this process was the first to open, and to forget the sockets of older
// generations that this process does not have.
func (a *announcer) announce(later bool) (forgotten []*os.File) {
	if a.estate.manager == nil {
		return nil
	}
	a.estate.listeners.Follow(func(r *listener.Socket) {
		if later && r.Fresh() {
			return
		}
		// Perhaps the manager still keeps an older socket under this name: a socket that is closed, or has lost its path.
		if a.origin.old == oldTableflip || a.passed.Stale(r.StoreName()) {
			a.estate.manager.Forget(r.StoreName())
		}
		if old := r.KeptAs(); old != "" && !a.estate.manager.Supervised() {
			a.estate.manager.Forget(old) // systemd keeps no socket under two names
		}
		a.keepSocket(r, true)
	}, a.keepSocket)
	if !later {
		forgotten = a.forgetSockets()
	}
	a.estate.manager.Ready(a.origin.generation, a.version, a.text())
	return forgotten
}

// keepRest queues the messages that announce has left to keepRest. It is called after the message serving was sent to the old
// process. It returns sockets that the manager is asked to forget, as announce does.
func (a *announcer) keepRest() (forgotten []*os.File) {
	if a.estate.manager == nil {
		return nil
	}
	a.estate.listeners.Follow(func(r *listener.Socket) {
		if r.Fresh() {
			a.keepSocket(r, true)
		}
	}, a.keepSocket)
	return a.forgetSockets()
}

// keepSocket makes the manager keep the socket. If open is false, the socket is closed, and keepSocket makes the manager
// remove it. The caller holds the lock of the listeners.
func (a *announcer) keepSocket(r *listener.Socket, open bool) {
	switch name := r.StoreName(); {
	case !open:
		a.estate.manager.Remove(name)
	case name != "":
		if file := r.Storable(); file != nil {
			a.estate.manager.Store(name, file)
		}
	}
}

// forgetSockets makes the manager forget sockets of older generations that this generation does not have. It returns unopened
// sockets that the manager has passed to this process. The caller must not empty these sockets before the manager has
// forgotten them. Otherwise a process that is started after a crash would receive the emptied sockets.
func (a *announcer) forgetSockets() []*os.File {
	own := map[string]bool{}
	for _, r := range a.estate.listeners.Refs() {
		own[r.StoreName()] = true
	}
	kept, names := a.passed.Unclaimed()
	for _, name := range append(a.stored, names...) {
		if !own[name] {
			a.estate.manager.Forget(name)
		}
	}
	a.stored = nil
	return kept
}

// unfollow ends the messages about opened and closed sockets. It is called when another generation sends such messages from
// now on, or when the whole service ends.
func (a *announcer) unfollow() {
	a.estate.listeners.Follow(nil, nil)
}

// stopping announces the end of the service to the manager. Only the first call has an effect. If the manager is the library's
// supervisor, it also drops the sockets, so that new connections are refused and do not wait in a queue.
func (a *announcer) stopping(reason string) {
	if a.estate.manager == nil || a.said {
		return
	}
	a.said = true
	a.unfollow()
	a.estate.manager.Stopping(reason)
}

// leave ends the metric about the supervisor, and sends the last messages.
func (a *announcer) leave() {
	a.unwatch()
	a.estate.manager.Close()
}

// watchdog decides when the service manager gets a sign of life, and when it gets a request for more time.
type watchdog struct {
	ticker   *time.Ticker // nil: there is no service manager
	extended time.Time    // the time of the last request for more time
}

// start begins to tick if there is a service manager.
func (w *watchdog) start(n *sdnotify.Notifier) {
	if n == nil {
		return
	}
	every := extendEvery
	if limit := n.WatchdogEvery(); limit > 0 {
		every = min(every, max(limit/3, time.Millisecond))
	}
	w.ticker = time.NewTicker(every)
}

// stop ends the ticks.
func (w *watchdog) stop() {
	if w.ticker != nil {
		w.ticker.Stop()
	}
}

// due returns the channel of the ticks; nil if there are none.
func (w *watchdog) due() <-chan time.Time {
	if w.ticker == nil {
		return nil
	}
	return w.ticker.C
}

// alive sends a sign of life, if the service manager expects signs of life.
func (w *watchdog) alive(n *sdnotify.Notifier) {
	if n.WatchdogEvery() > 0 {
		n.Alive()
	}
}

// extend asks for more time, unless a request was sent less than 9 seconds ago.
func (w *watchdog) extend(n *sdnotify.Notifier) {
	if time.Since(w.extended) >= extendEvery-time.Second {
		w.extended = time.Now()
		n.Extend()
	}
}

// announceEnd reports a failed attempt to the service manager. The message also names this process as the main process,
// because the candidate may have named itself as the main process before its death.
func (a *announcer) announceEnd(out Outcome) {
	status := a.text()
	if out.Phase != "" {
		status += "; the last upgrade failed: " + string(out.Phase) + ": " + wire.Clip(out.Reason)
	}
	a.estate.manager.Ready(a.origin.generation, a.version, status)
}
