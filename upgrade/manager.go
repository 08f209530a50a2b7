package upgrade

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// What the service manager is told, and when. All of it comes from the goroutine that owns the upgrade, but for the
// sockets that a program opens and closes while it serves.

// extendEvery is how often a start or an upgrade asks for more time.
const extendEvery = 10 * time.Second

// statusText is what systemctl status shows.
func (u *Upgrader) statusText() string {
	return fmt.Sprintf("serving, generation %d, version %s", u.generation, u.opts.Version)
}

// watchers are programs that watch the process that they have started, and nothing else, by name, with what they do when that ends.
var watchers = map[string]string{
	"tini": "ends with", "tini-static": "ends with", "docker-init": "ends with", "dumb-init": "ends with", "catatonit": "ends with",
	"runsv": "starts another copy after", "s6-supervise": "starts another copy after", "supervise": "starts another copy after",
	"supervisord": "starts another copy after",
}

// unmanageable returns why no upgrade can be made under what has started this process; nil if nothing is known.
func (u *Upgrader) unmanageable() error {
	switch does := watchers[u.starter]; {
	case u.manager.SupervisorState() != "":
	case u.manager == nil && os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()):
		return errors.New("systemd takes the end of this process for the end of the service, since its unit is Type=simple or exec: " +
			"call upgrade.Supervise, or use Type=notify-reload or Type=notify")
	case os.Getpid() == 1:
		return errors.New("the end of process 1 is the end of the container: call upgrade.Supervise")
	case does != "" && u.manager == nil:
		return fmt.Errorf("%s has started this process, and %s the end of it: call upgrade.Supervise", u.starter, does)
	}
	return u.manager.Problem()
}

// An old process names the new one within nameLimit of the moment in which the new one began to serve, or not at all. The new one says
// nothing and begins no upgrade for nameWait, which is longer: after that upgrade the old one would name a process that was replaced.
const (
	nameLimit = time.Second
	nameWait  = nameLimit + 500*time.Millisecond
)

// naming is the wait of a new main generation for the old process, which names it to systemd. The zero value is no wait.
type naming struct {
	over  chan struct{}    // closed at the end of the wait; nil: there is none
	due   <-chan time.Time // when the old process does not name this one any more
	since time.Duration    // the begin of the wait, by sys.Uptime
}

// begin begins to wait.
func (n *naming) begin() {
	n.since = sys.Uptime()
	n.over, n.due = make(chan struct{}), time.After(nameWait)
}

// waits reports whether the wait goes on.
func (n *naming) waits() bool { return n.over != nil }

// end ends the wait, and reports whether there was one.
func (n *naming) end() bool {
	if n.over == nil {
		return false
	}
	close(n.over)
	n.over, n.due = nil, nil
	return true
}

// announce says that this generation is the service. Its sockets are kept before, and what it does not have is
// forgotten. The candidate that says so has not told the old process yet: if it dies in between, the old one takes the
// service back and says that in turn.
//
// With later set, sockets that the old process does not have are kept by keepRest only, and nothing is forgotten before, so that the old
// process could go on with what it has.
//
// It does not wait: telling.send waits until the messages were sent. Returned are sockets that were forgotten, to be emptied then.
func (u *Upgrader) announce(later bool) (forgotten []*os.File) {
	if u.manager == nil {
		return nil
	}
	u.listeners.Follow(func(r *listener.Socket) {
		if later && r.Fresh() {
			return
		}
		if u.plainParent || u.passed.Stale(r.StoreName()) { // what was kept under this name may be closed, or has no path any more
			u.manager.Forget(r.StoreName())
		}
		if old := r.KeptAs(); old != "" && !u.manager.Supervised() {
			u.manager.Forget(old) // systemd keeps no socket under two names
		}
		u.keepSocket(r, true)
	}, u.keepSocket)
	if !later {
		forgotten = u.forgetSockets()
	}
	u.manager.Ready(u.generation, u.opts.Version, u.statusText())
	return forgotten
}

// keepRest does what announce has left, when the old process knows that it is not the service any more.
func (u *Upgrader) keepRest() (forgotten []*os.File) {
	if u.manager == nil {
		return nil
	}
	u.listeners.Follow(func(r *listener.Socket) {
		if r.Fresh() {
			u.keepSocket(r, true)
		}
	}, u.keepSocket)
	return u.forgetSockets()
}

// keepSocket follows the sockets of the main generation. It is called with the lock of the listeners.
func (u *Upgrader) keepSocket(r *listener.Socket, open bool) {
	switch name := r.StoreName(); {
	case !open:
		u.manager.Remove(name)
	case name != "":
		if file := r.Storable(); file != nil {
			u.manager.Store(name, file)
		}
	}
}

// forgetSockets drops what an older generation had kept and this one does not have. It returns the sockets themselves, which are to be
// emptied when the service manager was told: a process that is started after a crash of this moment must not get them any more.
func (u *Upgrader) forgetSockets() []*os.File {
	var own []string
	for _, r := range u.listeners.Refs() {
		own = append(own, r.StoreName())
	}
	kept, names := u.passed.Unclaimed()
	for _, name := range append(u.inherited, names...) {
		if !slices.Contains(own, name) {
			u.manager.Forget(name)
		}
	}
	u.inherited = nil
	return kept
}

// unfollow leaves what is kept as it is: it is another generation's now, or dropped.
func (u *Upgrader) unfollow() {
	u.listeners.Follow(nil, nil)
}

// stopping says that the service ends, once, and drops what is kept: connections that nobody will accept are to be
// refused and not to queue.
func (u *Upgrader) stopping(reason string) {
	if u.manager == nil || u.said {
		return
	}
	u.said = true
	u.unfollow()
	u.manager.Stopping(reason)
}

// leaveManager sends what is left to be said, and says nothing more.
func (u *Upgrader) leaveManager() {
	u.unwatch()
	u.manager.Close()
}

// watchdog is when the service manager is told that the loop goes round, and when it was asked for time.
type watchdog struct {
	ticker   *time.Ticker // nil: there is no service manager
	extended time.Time    // when more time was asked for
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

// alive tells the service manager that the loop goes round, if it wants that.
func (w *watchdog) alive(n *sdnotify.Notifier) {
	if n.WatchdogEvery() > 0 {
		n.Alive()
	}
}

// extend asks for more time.
func (w *watchdog) extend(n *sdnotify.Notifier) {
	if time.Since(w.extended) >= extendEvery-time.Second {
		w.extended = time.Now()
		n.Extend()
	}
}

// announceEnd tells the service manager how an attempt has ended that has left this process serving. The message names this process: a
// candidate may have named itself before it died.
func (u *Upgrader) announceEnd(out Outcome) {
	status := u.statusText()
	if out.Phase != "" {
		status += "; the last upgrade failed: " + string(out.Phase) + ": " + wire.Clip(out.Reason)
	}
	u.manager.Ready(u.generation, u.opts.Version, status)
}
