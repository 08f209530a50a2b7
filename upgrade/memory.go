package upgrade

import (
	"log/slog"
	"os"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// Which process memory pressure kills: a candidate has asked the kernel for that before main (package process), and here the
// process that becomes the service takes it back.

// memoryDelay is the time from the commit to the search for processes that would still be killed first: the first requests
// do not wait for the search.
const memoryDelay = time.Second

// memory is the search for processes that the kernel would kill first. The zero value is ready.
type memory struct{ stop func() }

// spare restores the oom_score_adj that the process had before it became a candidate: from here on other processes are
// killed first.
func (m *memory) spare(log *slog.Logger) {
	restored, err := process.RestoreOOM()
	if err != nil {
		log.Warn("upgrade: if memory runs out this service is killed first, and later generations too, until it is started "+
			"again or root writes the value to /proc/PID/oom_score_adj", "pid", os.Getpid(), "err", err)
	}
	if !restored {
		return
	}
	end, done := make(chan struct{}), make(chan struct{})
	m.stop = func() { close(end); <-done }
	go func() { // ends after the delay, or with end
		defer close(done)
		select {
		case <-time.After(memoryDelay):
		case <-end:
			return
		}
		if pids := process.KilledFirst(); len(pids) > 0 {
			log.Warn("upgrade: if memory runs out, processes that this one started as a candidate are killed first: their "+
				"oom_score_adj stays 1000 unless they change it", "pids", pids)
		}
	}()
}

// end ends the search, because Run returns after its last goroutine.
func (m *memory) end() {
	if m.stop != nil {
		m.stop()
	}
}
