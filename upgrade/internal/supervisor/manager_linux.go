package supervisor

import (
	"log/slog"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// manager is the service manager, such as systemd, that has started the supervisor as the main process of the service. The
// messages of the main generation are passed on to the manager in the supervisor's name, from the start to the end of the
// service. So the manager receives messages of its child only, and sees no crash that the supervisor mends.
type manager struct {
	up      *sdnotify.Notifier // nil: there is no manager
	log     *slog.Logger
	store   *store
	beatDue time.Time // when the supervisor itself is to answer the watchdog; zero: the main generation does
}

// relayed are the lines with the same meaning for the manager. MAINPID= is not among them, and the store is followed by keep
// and drop.
var relayed = []string{
	sdnotify.WordReady, sdnotify.WordReloading, sdnotify.WordMonotonic, sdnotify.WordStatus, sdnotify.WordExtend,
	sdnotify.WordStopping, sdnotify.WordAlive,
}

// relay passes on a message of the main generation. WATCHDOG=1 is passed on as well, so the manager receives none while the main
// generation is silent.
func (m *manager) relay(msg *sdnotify.Message) {
	var lines []string
	for _, l := range msg.Lines {
		for _, word := range relayed {
			if strings.HasPrefix(l, word) {
				lines = append(lines, l)
			}
		}
	}
	if len(lines) > 0 {
		m.up.Say(lines...)
	}
}

// beat answers the manager's watchdog while a silent main generation is ended, and started again: the manager would end all
// processes, and forget which build was committed. GiveUp and the time to serve limit the answers, and for a silent generation,
// SIGKILL.
func (m *manager) beat(now time.Time, mending bool) {
	every := m.up.WatchdogEvery() / 3
	switch {
	case every == 0 || !mending:
		m.beatDue = time.Time{}
	case !now.Before(m.beatDue):
		m.beatDue = now.Add(every)
		m.up.Alive()
	}
}

// watchdog returns the time after which the supervisor ends a silent generation. The time is shorter than the manager's, which would
// end all processes, and forget which build was committed.
func (m *manager) watchdog(own time.Duration) time.Duration {
	every := m.up.WatchdogEvery()
	if early := every - every/4; every > 0 && (own == 0 || own > early) {
		return max(early, time.Millisecond)
	}
	return own
}

// keep holds a socket of a generation, and has the manager keep the socket for the time after a crash of the supervisor, and for a
// restart of the service. Sockets of socket units are the manager's already.
func (m *manager) keep(msg *sdnotify.Message) {
	name := msg.Value(sdnotify.WordName)
	if len(msg.Files) == 0 {
		m.log.Warn("upgrade: supervisor: a socket came without its descriptor, so a crash will close it: raise the limit of open files "+
			"(ulimit -n, LimitNOFILE)", "name", name)
	}
	for _, f := range msg.Files {
		switch k, before := m.store.add(name, f); {
		case k == nil:
			m.log.Warn("upgrade: supervisor: cannot hold a socket: a crash will close it", "name", name)
		case m.up == nil || k.name == before || k.name != name:
		default:
			if before != "" { // systemd keeps no socket under two names
				m.up.Forget(before)
			}
			if file, err := sys.DupFile(k.file); err != nil {
				m.log.Warn("upgrade: supervisor: the service manager cannot keep a socket: a restart will close it", "name", name, "err", err)
			} else {
				m.up.Store(name, file)
			}
		}
	}
	msg.Files = nil // they are the store's
}

// drop releases a socket that a generation has closed. At a stop the manager keeps its sockets, since a manager knows whether
// the service is started again.
func (m *manager) drop(name string, stopping bool) {
	m.store.remove(name)
	if !stopping {
		m.up.Forget(name)
	}
}
