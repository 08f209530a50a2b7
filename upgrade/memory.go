package upgrade

import (
	"log/slog"
	"os"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// The choice of the process that the kernel kills when memory runs out. A candidate raises its own oom_score_adj before main
// (package process), so that the kernel kills it first. This file restores the value when the candidate becomes the service.

// memoryDelay is the time between the commit and the search for processes that the kernel would still kill first. An earlier
// search would slow down the first requests.
const memoryDelay = time.Second

// memory searches for processes that the kernel would kill first. The zero value can be used.
type memory struct{ stop func() }

// spare restores the oom_score_adj that this process was started with, so that the kernel no longer kills it first. If spare
// has restored the value, it also starts the search for processes that this process has started and that still have the raised
// value.
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
	go func() { // ends after KilledFirst has returned, or when m.stop is called
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

// end ends the search, and waits until the goroutine of the search has ended. Run calls end before Run returns.
func (m *memory) end() {
	if m.stop != nil {
		m.stop()
	}
}
