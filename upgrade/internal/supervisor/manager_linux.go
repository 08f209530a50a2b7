package supervisor

import (
	"strings"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// The supervisor as the main process of a service manager such as systemd, from the start to the end of the service: what the
// main generation says is passed on, in the supervisor's name. So the manager hears its own child only, never of another main
// process, and sees no crash that the supervisor mends.

// relayed are the lines that mean the same to the manager. MAINPID= is none of them, and the store is followed by keep and drop.
var relayed = []string{
	sdnotify.WordReady, sdnotify.WordReloading, sdnotify.WordMonotonic, sdnotify.WordStatus, sdnotify.WordExtend,
	sdnotify.WordStopping, sdnotify.WordAlive,
}

// relay passes on what the main generation has said. Its WATCHDOG=1 is passed on as well, so there is none while it is silent.
func (s *supervisor) relay(m *sdnotify.Message) {
	var lines []string
	for _, l := range m.Lines {
		for _, word := range relayed {
			if strings.HasPrefix(l, word) {
				lines = append(lines, l)
			}
		}
	}
	if len(lines) > 0 {
		s.up.Say(lines...)
	}
}

// beat answers the manager's watchdog in place of the main generation while that is ended for its silence, and started again: the
// manager would end all processes, and forget which build was committed. GiveUp and the time to serve limit that, and for a
// generation that is silent, the second bark.
func (s *supervisor) beat(now time.Time) {
	every := s.up.WatchdogEvery() / 3
	switch mending := s.everMain && !s.ending && (s.main == nil || !s.main.ready || s.main.barks == 1); {
	case every == 0 || !mending:
		s.beatDue = time.Time{}
	case !now.Before(s.beatDue):
		s.beatDue = now.Add(every)
		s.up.Alive()
	}
}

// watch makes the supervisor notice a hung generation before the manager does, which would end all processes, and forget which
// build was committed.
func (s *supervisor) watch() {
	every := s.up.WatchdogEvery()
	if early := every - every/4; every > 0 && (s.opts.Watchdog == 0 || s.opts.Watchdog > early) {
		s.opts.Watchdog = max(early, time.Millisecond)
	}
}

// keep holds a socket of a generation, and has the manager keep it for the time after a crash of the supervisor, and for a
// restart of the service. Sockets of socket units are the manager's already.
func (s *supervisor) keep(m *sdnotify.Message) {
	name := m.Value(sdnotify.WordName)
	if len(m.Files) == 0 {
		s.log.Warn("upgrade: supervisor: a socket came without its descriptor, so a crash will close it: raise the limit of open files "+
			"(ulimit -n, LimitNOFILE)", "name", name)
	}
	for _, f := range m.Files {
		switch k, before := s.store.add(name, f); {
		case k == nil:
			s.log.Warn("upgrade: supervisor: cannot hold a socket: a crash will close it", "name", name)
		case s.up == nil || k.name == before || k.name != name:
		default:
			if before != "" { // systemd keeps no socket under two names
				s.up.Forget(before)
			}
			if file, err := sys.DupFile(k.file); err != nil {
				s.log.Warn("upgrade: supervisor: the service manager cannot keep a socket: a restart will close it", "name", name, "err", err)
			} else {
				s.up.Store(name, file)
			}
		}
	}
	m.Files = nil // they are the store's
}

// drop gives up a socket that a generation has closed. At a stop the manager keeps what it has: it knows whether it starts the
// service again.
func (s *supervisor) drop(name string, by *generation) {
	s.store.remove(name)
	if !by.stopping {
		s.up.Forget(name)
	}
}
