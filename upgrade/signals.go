package upgrade

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The signals of a generation. Under the supervisor, users send signals to the supervisor. It passes the signals on to the main
// generation (see the method signal in internal/supervisor).

// signals has the channels of the signals that Run handles. Each channel has room for a single signal, because a second signal
// of the same kind adds nothing.
type signals struct {
	hangup, terminate, interrupt chan os.Signal
	terminal                     *sys.Terminal
}

func notifySignals(no, supervised bool) signals {
	s := signals{make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1), new(sys.Terminal)}
	if !no {
		if !supervised { // a supervisor watches the terminal itself
			s.terminal = sys.WatchTerminal()
		}
		signal.Notify(s.hangup, syscall.SIGHUP)
		signal.Notify(s.terminate, syscall.SIGTERM)
		signal.Notify(s.interrupt, os.Interrupt)
	}
	return s
}

// pipes receives SIGPIPE. No goroutine reads the channel. When the channel is full, package signal drops further signals.
var pipes = make(chan os.Signal, 1)

// survivePipe keeps the process alive if the reader of its standard output or error has ended: a write then returns an error.
// The effect lasts until the process ends, also after Run. survivePipe does not ignore the signal, because child processes
// would inherit an ignored signal.
func survivePipe() { signal.Notify(pipes, syscall.SIGPIPE) }

func (s signals) stop() {
	signal.Stop(s.hangup)
	signal.Stop(s.terminate)
	signal.Stop(s.interrupt)
	s.terminal.Close()
}

// successor is the process that has taken over. The zero value means that no process has taken over.
type successor struct {
	child  *child
	since  time.Time         // the time of the handover
	frames <-chan wire.Frame // messages of the successor, or of a later process on the same socket; nil: none
	reads  bool              // the successor reads the sockets of the older generations
}

// signalEarly passes a signal on to the successor, but only in the first second (commitStall) after the handover. Such a signal
// was perhaps meant for the successor: the sender may have read the pid file before the file named the successor. A later
// signal was probably sent to every process of the service, so the successor has received it too.
func (s *successor) signalEarly(sig os.Signal) {
	if s.child != nil && time.Since(s.since) < commitStall {
		s.child.Signal(sig)
	}
}

// late passes on a SIGHUP that came after the end of the loop. The caller has called signals.stop, so no more signals come.
func (s *successor) late(sig signals) {
	select {
	case <-sig.hangup:
		s.signalEarly(syscall.SIGHUP)
	default:
	}
}

// close closes the control socket.
func (s *successor) close() {
	if s.child != nil {
		s.child.link.Close()
	}
}
