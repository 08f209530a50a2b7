package upgrade

import (
	"log/slog"
	"os"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// Which process memory pressure kills: a candidate has asked the kernel for that before main (package process), and here the
// process that becomes the service takes it back.

// memoryDelay is how long after that it is looked which other processes would still be killed first: the first requests are not
// to wait for that.
const memoryDelay = time.Second

// memory is the look at what is killed first. The zero value is ready.
type memory struct{ stop func() }

// spare ends what was asked of the kernel for a candidate: from here on this process is the one to be spared.
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

// end ends the look at other processes: Run returns after its last goroutine.
func (m *memory) end() {
	if m.stop != nil {
		m.stop()
	}
}
