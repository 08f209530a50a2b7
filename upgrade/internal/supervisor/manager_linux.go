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
// service. So the manager receives messages of its own child only, and sees no crash that the supervisor mends.
type manager struct {
	up      *sdnotify.Notifier // nil: there is no manager
	log     *slog.Logger
	store   *store
	beatDue time.Time // when the supervisor answers the watchdog next; zero: the main generation answers
}

// relayed are the beginnings of the lines that are passed on unchanged. MAINPID= is not passed on. The methods keep and drop
// handle the lines about the manager's descriptor store.
var relayed = []string{
	sdnotify.WordReady, sdnotify.WordReloading, sdnotify.WordMonotonic, sdnotify.WordStatus, sdnotify.WordExtend,
	sdnotify.WordStopping, sdnotify.WordAlive,
}

// relay passes on a message of the main generation. WATCHDOG=1 is passed on as well, so the manager notices if the main
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

// beat answers the manager's watchdog as long as mending is true, that is while the main generation is being replaced. Without
// an answer the manager would end all processes, also the supervisor, which knows the committed build. The supervisor does not
// answer for ever: it gives up after GiveUp, kills a started process that does not serve in time, and kills a silent
// generation.
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

// watchdog returns how long a generation may be silent before the supervisor ends it. own is Options.Watchdog. If the manager
// has a watchdog too, the result is shorter than the time of that watchdog. Otherwise the manager would end all processes, also
// the supervisor, which knows the committed build.
func (m *manager) watchdog(own time.Duration) time.Duration {
	every := m.up.WatchdogEvery()
	if early := every - every/4; every > 0 && (own == 0 || own > early) {
		return max(early, time.Millisecond)
	}
	return own
}

// keep holds the sockets in a message of a generation. It also stores a copy of each socket at the manager, for a crash of the
// supervisor and for a restart of the service. It stores no copy of a socket from a socket unit, because the manager has this
// socket already.
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
	msg.Files = nil // the files belong to the store now
}

// drop releases a socket that a generation has closed. If stopping is true, the service stops. Then the manager keeps its copy
// of the socket, because only the manager knows whether the service is started again.
func (m *manager) drop(name string, stopping bool) {
	m.store.remove(name)
	if !stopping {
		m.up.Forget(name)
	}
}
