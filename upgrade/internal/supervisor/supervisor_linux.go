// Package supervisor is the process that keeps its pid while generations of the service come and go: it starts the first,
// reaps, passes signals on, holds the listening sockets, and starts the last committed build again after a crash.
//
//	supervisor_linux.go  the loop, signals, and the processes that are followed
//	passing_linux.go     how a generation gets the sockets that are held
//	start_linux.go       how a generation is started, and which processes may become one
//	inbox_linux.go       what generations send on their channels, and the sockets that are held
//	manager_linux.go     what the service manager is told that has started the supervisor
//	children_linux.go    how processes are waited for, and who is told
//	console_linux.go     the terminal, which a program has until it serves
//	threads_linux.go     threads that are kept for when the machine allows none
//	crash_linux.go       what is made of that: who the main generation is, and what a death means
//	orphan_linux.go      candidates whose old process has died before it committed them
//	timers_linux.go      what is done when a time is over: the next start, and the end of the service
//	outage_linux.go      what is counted while nobody serves
//	config.go            what the supervisor is told, and what it tells a process that it starts
package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// supervisor is Run: one goroutine that owns everything. What happens comes to it as a value on a channel: a
// signal, a message on the channel of a generation, the end of a generation. It starts processes and waits for them without
// os/exec and os.Process, because a single loop of wait4 reaps its children and every orphan that comes to it.
//
// There is one arbiter of who the service is. As long as a process lives that may become the service by the protocol between two
// generations, the supervisor starts none. A candidate that was not committed when its old process died is no such process: it
// serves until the build that was committed last is up again.
type supervisor struct {
	opts Config
	log  *slog.Logger
	up   *sdnotify.Notifier // the service manager of this process, if it has one itself

	store     *store
	reserve   sys.Reserve      // for what generations send: a message whose descriptors find no room is lost
	spoken    chan *generation // a generation has said something
	deaths    chan *generation
	quit      chan struct{}       // closed at the end: nobody hears of deaths any more
	gens      map[int]*generation // by their pid, or a negative number
	nameless  int                 // the last of these numbers
	strangers strangers
	main      *generation    // nil between a crash and the next start
	last      *process.Build // of what was committed last
	before    *process.Build // what a crash loop goes back to, if it is known
	newest    *generation    // the one with which last became another build
	everMain  bool           // the service has been up

	crashed   *generation // what has to be replaced
	counted   *generation // the end of this generation is no crash that is still to be counted
	outage    outage
	instead   *process.Build // before, if that is to be started and not last; nil: last
	restartAt time.Time
	heirsDue  time.Time
	beatDue   time.Time // when the service manager is to hear from the supervisor; zero: not from the supervisor itself
	resumeDue time.Time // when a program that was stopped goes on, since this process was not; zero: none was
	hangup    bool      // an upgrade was asked for meanwhile
	terminal  *sys.Terminal
	console   console

	ending bool
	asked  bool // by a signal, for the end
	endDue time.Time
	code   int
}

// generation is one process of the chain, or one that might become one.
type generation struct {
	pid        int // 0: it was dead when it was announced
	key        int // in the supervisor's map
	proc       *process.Handle
	inbox      *inbox      // the supervisor's end of its channel
	parent     *generation // that has announced it; nil: the supervisor has started it
	number     int
	version    string
	isMain     bool // is or was the main one
	left       bool // it has handed over and only drains
	committing bool // it has said that the commit message is about to be sent to its candidate
	confirmed  bool // an orphan that is to be the service
	met        int  // the number of the process that an orphan has a control socket to
	orphan     bool // a candidate whose old process has died before it committed this one: it serves, and is not the service
	stopping   bool // it has said that the service ends
	told       bool // it was told to stop
	ready      bool
	since      time.Time // when it was started or became the service
	ended      time.Time // when it was the main one and had ended
	due        time.Time // when it must serve; zero: no limit
	goneDue    time.Time // when a process that is not to be the service must have ended, or have said that it is an orphan; zero: no limit
	silent     time.Time // when the watchdog ends it; zero: never
	barks      int
	passing    *passing       // what it has not got yet of the sockets that are held; nil: nothing
	build      *process.Build // what was announced; nil: what the supervisor has started, or a build that it remembers by now

	status unix.WaitStatus
	known  bool // the status
}

// abortLimit is how long a generation may take to print its stacks and end.
const abortLimit = 2 * time.Second

// reserved is how many descriptors are held in reserve: enough for the announcements of eight candidates.
const reserved = 32

// reserveSize is how many descriptors are held: few where the limit is low, and others need them.
func reserveSize() int { return min(reserved, sys.FileLimit()/16) }

// Run starts the service and returns, with ok, when it has ended: code is the exit status of the main
// generation. ok is false if nothing can be supervised here.
func Run(o Config) (code int, ok bool) {
	s, err := newSupervisor(o)
	if err != nil {
		o.Logger.Error("upgrade: cannot supervise, the service runs without it", "err", err)
		return 0, false
	}
	defer s.close()
	return s.run(), true
}

func newSupervisor(o Config) (*supervisor, error) {
	if link, err := os.Readlink("/proc/self"); err != nil || link != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("/proc is not that of this process's namespace (/proc/self is %q, not %d): mount it", link, os.Getpid())
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	self, err := process.Open(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("no pidfd, which needs Linux 5.10: %w", err)
	}
	self.Close()
	own, err := process.Own(o.Version)
	if err != nil {
		return nil, err
	}
	own.Env = withoutPrivate(os.Environ())
	s := &supervisor{
		opts: o, log: o.Logger, last: own, gens: map[int]*generation{},
		spoken: make(chan *generation), deaths: make(chan *generation), quit: make(chan struct{}),
	}
	s.store = newStore(sdnotify.TakeActivation().Files)
	s.up = sdnotify.New(o.Logger)
	s.watch()
	s.reserve.Fill(reserveSize())
	s.terminal, s.console = sys.WatchTerminal(), openConsole()
	return s, nil
}

func (s *supervisor) close() {
	close(s.quit)
	s.console.take()
	s.terminal.Close()
	s.reserve.Release()
	for _, g := range s.gens {
		g.close()
	}
	s.store.close()
	s.up.Close()
	s.last.Close()
	s.before.Close()
}

func (s *supervisor) run() int {
	runtime.GOMAXPROCS(1) // it waits nearly all of the time: small rather than fast
	debug.SetGCPercent(25)
	reserveThreads()
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, caught()...)
	defer signal.Stop(signals)
	if err := s.start(s.last, nil); err != nil {
		s.log.Error("upgrade: supervisor: cannot start the service", "err", err)
		return 1
	}
	debug.FreeOSMemory()
	for !s.over() {
		timer := time.NewTimer(s.pause())
		select {
		case sig := <-signals:
			s.signal(sig)
		case g := <-s.spoken:
			s.receive()
			g.inbox.answer()
		case g := <-s.deaths:
			s.died(g)
		case <-timer.C:
			s.receive() // this process may have been stopped: what is due may have been said long ago
		}
		timer.Stop()
		s.tick(time.Now())
	}
	return s.code
}

// caught are all signals that can be caught: what is not passed on must not end the supervisor either. Those that stop a process from
// the terminal are left alone: a signal that was asked for once is ignored afterwards, and does not stop any more.
func caught() (all []os.Signal) {
	for n := syscall.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		default:
			all = append(all, n)
		}
	}
	return all
}

func (s *supervisor) over() bool { return s.ending && len(s.gens) == 0 }

// signal passes a signal on to the main generation. Each generation leads a process group of its own, so what a terminal
// sends to the foreground comes here only, once.
func (s *supervisor) signal(sig os.Signal) {
	n, _ := sig.(syscall.Signal)
	if n == unix.SIGURG || n == unix.SIGPIPE {
		return // the runtime's own
	}
	s.receive() // who the main generation is by now: one that has handed over may have ended, and one that is reaped has no /proc
	switch n {
	case unix.SIGCHLD:
		s.reap()
		return
	case unix.SIGCONT:
		s.continued()
		return
	case unix.SIGHUP:
		if s.terminal.Ends() && sys.Nohup() {
			return
		}
		if s.terminal.Ends() {
			s.log.Info("upgrade: supervisor: the terminal was closed")
			n = unix.SIGTERM
		}
	}
	stops := n == unix.SIGTERM || n == unix.SIGINT || n == unix.SIGQUIT || n == unix.SIGABRT
	switch {
	case s.ending && s.asked && stops:
		s.killAll()
	case s.ending:
	case n == unix.SIGHUP && (s.main == nil || !s.main.ready || s.main.dead()):
		s.hangup = true // for whoever serves next: one that does not yet would be ended by it
	case s.main == nil && stops:
		s.log.Info("upgrade: supervisor: told to stop after a crash", "signal", n)
		s.finish(0)
	case s.main != nil:
		s.main.told = s.main.told || stops
		s.main.send(n)
		if n == unix.SIGABRT { // by the watchdog of a service manager, which waits for the end
			s.main.goneDue = time.Now().Add(abortLimit)
		}
	}
	s.asked = s.asked || stops // a manager sends the same signal to the generations, which may have ended before this one
}

func (g *generation) send(sig syscall.Signal) { _ = g.proc.Signal(sig) } // fails if it has ended

// kill ends a generation and what it has started, which is in its group.
func (g *generation) kill() { g.proc.Kill() }

func (s *supervisor) killAll() {
	for _, g := range s.gens {
		g.kill()
	}
}

// exitCode is what a shell would call it. The status of a process that an older generation has reaped is not known: one
// that has said that it stops has done so.
func (g *generation) exitCode() int {
	switch {
	case g.known && g.status.Signaled():
		return 128 + int(g.status.Signal())
	case g.known:
		return g.status.ExitStatus()
	case g.stopping || g.told:
		return 0
	}
	return 1
}

// follow begins to hear a generation: what it says on the channel, and its end. The handle and the channel become its own.
func (s *supervisor) follow(proc *process.Handle, channel *os.File) *generation {
	g := &generation{pid: proc.PID(), key: proc.PID(), proc: proc, inbox: newInbox(channel), since: time.Now()}
	if g.pid == 0 { // it is dead and reaped, and what it had said is still to be heard
		s.nameless--
		g.key = s.nameless
	}
	s.gens[g.key] = g
	go func() { // ends with the channel, with the generation, or with the supervisor
		defer close(g.inbox.done)
		for g.inbox.await() {
			select {
			case s.spoken <- g:
				if !g.inbox.answered() {
					return
				}
			case <-g.inbox.quit:
				return
			}
		}
	}()
	go func() { // ends with the process or with the supervisor
		_ = proc.Wait()
		select {
		case s.deaths <- g:
		case <-s.quit:
		}
	}()
	return g
}

// close gives up what the supervisor holds of a generation.
func (g *generation) close() {
	g.inbox.close()
	g.proc.Close()
	g.build.Close()
}

// served is how long a generation that has ended had served; negative if it had not.
func (g *generation) served() time.Duration {
	if !g.ready {
		return -1
	}
	return g.ended.Sub(g.since)
}

func (g *generation) dead() bool { return g.proc.Ended() }
