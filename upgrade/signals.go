package upgrade

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

// What signals mean to a generation. Under the supervisor a signal reaches the supervisor first, which passes it on to the
// main generation (signal in internal/supervisor).

// signals are the ones that Run asks for. Each channel has room for one: a second of its kind says the same.
type signals struct {
	hangup, terminate, interrupt chan os.Signal
	terminal                     *sys.Terminal
}

func (u *Upgrader) notify() signals {
	s := signals{make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1), new(sys.Terminal)}
	if !u.opts.NoSignals {
		if u.manager.SupervisorState() == "" { // else the supervisor tells a request from the end of its terminal
			s.terminal = sys.WatchTerminal()
		}
		signal.Notify(s.hangup, syscall.SIGHUP)
		signal.Notify(s.terminate, syscall.SIGTERM)
		signal.Notify(s.interrupt, os.Interrupt)
	}
	return s
}

// pipes gets SIGPIPE, and is not read: a signal that finds no room is dropped.
var pipes = make(chan os.Signal, 1)

// survivePipe keeps the process alive when it writes to standard output or error and the reader of that pipe has gone: the
// write fails instead. It stays so until the process ends, which may write after Run. The signal is not ignored, which the
// processes that this one starts would inherit.
func survivePipe() { signal.Notify(pipes, syscall.SIGPIPE) }

func (s signals) stop() {
	signal.Stop(s.hangup)
	signal.Stop(s.terminate)
	signal.Stop(s.interrupt)
	s.terminal.Close()
}

// hangup handles a SIGHUP: it asks for an upgrade, unless the terminal ends at this moment and nobody asks by the pid file. Under nohup
// that end is nothing.
func (r *runner) hangup(t *sys.Terminal) {
	if t.Ends() && !r.u.pid.Asked() {
		if r.u.detached {
			return
		}
		r.stop(errors.New("the terminal was closed"))
		return
	}
	r.again = true
	r.upgradeAgain()
}

// upgradeAgain does what a SIGHUP asked for, now or when it is possible.
func (r *runner) upgradeAgain() {
	switch {
	case !r.again || r.role == roleCandidate:
	case r.role == roleLeaving:
		r.again = false
		r.forward()
	case r.u.tf == nil:
		r.again = false
		r.u.log.Error("upgrade: cannot do what SIGHUP asks for", "err", ErrNotSupported)
	case r.attempt == nil:
		r.again = false
		r.begin(newAttempt(context.Background(), r.u, modeHangup), nil)
	case r.attempt.remember():
		r.again = false
	}
}

// forward passes on a SIGHUP that was sent before the pid file named the successor. A later one is not meant for this
// process, but sent to every process of a group, and the successor has got its own.
func (r *runner) forward() {
	if r.successor != nil && time.Since(r.handed) < commitStall {
		r.successor.Signal(syscall.SIGHUP)
	}
}

// late passes on a SIGHUP that reached this process when its loop had ended. Since stop nothing more comes.
func (r *runner) late(sig signals) {
	select {
	case <-sig.hangup:
		r.forward()
	default:
	}
}
