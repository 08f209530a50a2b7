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

// supervisor is the state of Run. Only the loop in the method run changes this state.
type supervisor struct {
	opts     Config
	log      *slog.Logger
	procs    *children
	main     *proc // the main generation, from its start on; nil: there is none, for example between a crash and the next start
	store    *store
	manager  *manager
	recovery *recovery
	console  *console
	terminal *sys.Terminal
	reserve  sys.Reserve // spare descriptors, closed before messages are received, because messages bring descriptors

	launch   *launch // the start that is under way; nil: no program is being started
	launched chan *launch

	phase  phase
	hangup bool      // send SIGHUP to the next generation that serves: perhaps no generation has received the last SIGHUP
	passed time.Time // when SIGHUP was last passed on; zero: never, or the last SIGHUP cannot be lost any more
	asked  bool      // a signal has asked the service to end
	endDue time.Time // in phase ending: when the processes that are left are killed
	code   int       // in phase ending: the exit status
}

// phase tells whether a generation has served yet, and whether the service is ending.
type phase int

const (
	untried phase = iota // no generation has served yet: perhaps the program is a command, and not a service
	running
	ending
)

// hangupLimit is how long a SIGHUP may take to have an effect. If the main generation crashes within this time after a SIGHUP
// was passed on, the supervisor assumes that the signal was lost with the process.
const hangupLimit = time.Second

// abortLimit is how long a generation may take to print all stacks and end, after it was sent SIGABRT. If a signal asks the
// service to end while a start is under way, the start gets the same time.
const abortLimit = 2 * time.Second

// reserved is how many descriptors are held in reserve at most: enough for the announcements of eight candidates.
const reserved = 32

// reserveSize returns how many descriptors are held in reserve: fewer than reserved if the limit of open files is low, since
// other parts of the process need descriptors too.
func reserveSize() int { return min(reserved, sys.FileLimit()/16) }

// Run starts the service, and waits until the service has ended. Then Run returns the exit status for this process, and true.
// If this process cannot be a supervisor, Run starts nothing, and ok is false.
func Run(o Config) (code int, ok bool) {
	own, err := prepare(o)
	if err != nil {
		o.Logger.Error("upgrade: cannot supervise, the service runs without it", "err", err)
		return 0, false
	}
	s := newSupervisor(o, own, newStore(sdnotify.TakeActivation().Files), sdnotify.New(o.Logger))
	s.reserve.Fill(reserveSize())
	s.terminal, s.console = sys.WatchTerminal(), openConsole()
	defer s.close()
	return s.run(), true
}

// prepare makes this process fit to be a supervisor, and returns the build of this process.
func prepare(o Config) (*process.Build, error) {
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
	return own, nil
}

// newSupervisor makes a supervisor that has started nothing yet and has no terminal: Run sets the terminal. The supervisor owns
// the build, the store and the notifier from then on.
func newSupervisor(o Config, own *process.Build, held *store, up *sdnotify.Notifier) *supervisor {
	m := &manager{up: up, log: o.Logger, store: held}
	o.Watchdog = m.watchdog(o.Watchdog)
	procs := newChildren()
	return &supervisor{
		opts: o, log: o.Logger, procs: procs, store: held, manager: m, console: &console{}, terminal: &sys.Terminal{},
		recovery: &recovery{opts: o, log: o.Logger, procs: procs, builds: builds{log: o.Logger, last: own}},
		launched: make(chan *launch),
	}
}

func (s *supervisor) close() {
	s.console.take()
	s.terminal.Close()
	s.reserve.Release()
	s.procs.close()
	s.store.close()
	s.manager.up.Close()
	s.recovery.builds.close()
}

func (s *supervisor) run() int {
	// The loop needs one of Go's processors, and a start needs another one: the goroutine of a start occupies its processor
	// until the kernel has executed the program.
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(25)
	reserveThreads()
	signals := make(chan os.Signal, mostSignals)
	signal.Notify(signals, caught()...)
	defer signal.Stop(signals)
	s.start(s.recovery.builds.last, nil)
	for !s.over() {
		s.await(signals)
		s.tick(time.Now())
	}
	return s.code
}

// await waits for the next event, and handles it: a signal, a message, the end of a process, the result of a start, or a
// deadline. While a start is under way, messages and ends of processes wait (see isLaunching).
func (s *supervisor) await(signals <-chan os.Signal) {
	readable, deaths := s.procs.readable, s.procs.deaths
	if s.isLaunching() {
		readable, deaths = nil, nil
	}
	timer := time.NewTimer(s.pause())
	defer timer.Stop()
	select {
	case sig := <-signals:
		s.signal(sig)
	case p := <-readable:
		s.receive()
		p.inbox.answer()
	case p := <-deaths:
		s.died(p)
	case l := <-s.launched:
		s.started(l)
	case <-timer.C:
		s.receive() // messages are handled before the deadline: if this process was suspended, messages may wait
	}
}

// isLaunching reports whether a start is under way for which messages and ends of processes have to wait. In phase ending
// nothing waits for a start, so the result is false.
func (s *supervisor) isLaunching() bool { return s.launch != nil && s.phase != ending }

// caught lists the signals that the supervisor catches, so that none ends the supervisor by its default action. The three
// signals by which a terminal suspends a process are not caught. If such a signal was caught once, it would be ignored from
// then on, and could no longer suspend this process.
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

func (s *supervisor) over() bool { return s.phase == ending && len(s.procs.all) == 0 }

// signal handles a signal: it passes most signals on to the main generation. A terminal sends a signal to its foreground group
// only. The supervisor and each generation are in different groups, so a generation gets such a signal only once.
func (s *supervisor) signal(sig os.Signal) {
	n, _ := sig.(syscall.Signal)
	if n == unix.SIGURG || n == unix.SIGPIPE {
		return // the Go runtime uses SIGURG; a SIGPIPE comes from the supervisor's own writes
	}
	stops := n == unix.SIGTERM || n == unix.SIGINT || n == unix.SIGQUIT || n == unix.SIGABRT
	if s.isLaunching() {
		s.launch.postpone(sig, stops)
		return
	}
	// The waiting messages are handled first, because a message may make another process the main generation. A message may
	// also announce a process, and the pid of this process can be read only until the process is reaped.
	s.receive()
	switch n {
	case unix.SIGCHLD:
		s.procs.reap(s.suspended)
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
			n, stops = unix.SIGTERM, true
		}
	}
	switch {
	case s.phase == ending && s.asked && stops:
		s.procs.kill()
	case s.phase == ending:
	case n == unix.SIGHUP && (s.main == nil || s.main.state == starting || s.main.dead()):
		s.hangup = true // lead sends SIGHUP later: now the signal could end a process that does not serve yet
	case s.main == nil && stops:
		s.log.Info("upgrade: supervisor: told to stop after a crash", "signal", n)
		s.finish(0)
	case s.main != nil:
		s.pass(n, stops)
	}
	// Only the second signal that asks the service to end kills the processes. But the first such signal may also come in phase
	// ending: a service manager sends it to the generations too, which may end before the supervisor gets the signal.
	s.asked = s.asked || stops
}

// pass sends a signal to the main generation.
func (s *supervisor) pass(n syscall.Signal, stops bool) {
	if stops {
		s.main.intend(asked)
	}
	s.main.send(n)
	if n == unix.SIGHUP {
		s.passed = time.Now()
	}
	if n == unix.SIGABRT { // the watchdog of a service manager sends SIGABRT; then the manager waits for the end of the service
		s.main.endBy = time.Now().Add(abortLimit)
	}
}

// suspended is called when a signal has suspended a process, for example after Ctrl-Z. As long as no generation has served, the
// program may be a command on a terminal, so the supervisor is suspended together with the program. After SIGSTOP, or if a
// generation has served, suspended does nothing.
func (s *supervisor) suspended(p *proc, by syscall.Signal) {
	if s.phase == untried && by != unix.SIGSTOP {
		s.console.stop(p.pid, by)
	}
}

// continued continues a program that was suspended. It is called when the supervisor has received SIGCONT. It is also called if
// the kernel has not suspended the supervisor together with the program.
func (s *supervisor) continued() {
	s.console.resumeDue = time.Time{}
	if s.phase == untried && s.main != nil {
		s.console.resume(s.main.pid)
	}
}

// start starts a build in another goroutine. The new process gets the sockets of the store. report tells the process why it is
// started; report is nil for the first program. When the program runs, or when the start has failed, the loop receives the
// launch and calls started.
func (s *supervisor) start(b *process.Build, report *Report) {
	s.reserve.Release() // a start needs descriptors
	l := &launch{
		build: b, rollback: s.recovery.builds.rollback(), number: s.procs.nextNumber(s.recovery.leastNumber()), report: report,
		held: s.store.list(), meetings: toMeet(s.procs), others: toIntroduce(s.procs), attr: &syscall.SysProcAttr{Setpgid: true},
		watchdog: s.opts.Watchdog, log: s.log, due: time.Now().Add(s.opts.Timeout),
	}
	s.console.foreground(l.attr)
	s.launch = l
	go func() { // ends with the start; close does not wait for a start that hangs
		l.run()
		select {
		case s.launched <- l:
		case <-s.procs.quit: // the supervisor has ended
			l.abandon()
		}
	}()
}

// started handles the result of a start.
func (s *supervisor) started(l *launch) {
	s.launch = nil
	s.reserve.Fill(reserveSize())
	if s.phase == ending {
		l.abandon()
		return
	}
	switch {
	case l.err == nil:
		s.adopt(l)
	case l.report == nil:
		s.log.Error("upgrade: supervisor: cannot start the service", "err", l.err)
		s.finish(1)
	}
	if l.report != nil {
		s.recovery.restarted(l.err, time.Now())
	}
	s.settle()
	s.procs.reap(s.suspended) // children that have ended during the start
	for _, sig := range l.signals {
		s.signal(sig)
	}
}

// adopt makes the process that was started the main generation, in state starting.
func (s *supervisor) adopt(l *launch) {
	p := s.procs.follow(l.handle, l.channel)
	p.number, p.version, p.passing = l.number, l.build.Version, l.passing
	for _, o := range l.met {
		o.met = l.number
	}
	s.console.lend(p.pid)
	s.main = p
	if l.report == nil {
		debug.FreeOSMemory()
		return
	}
	p.serveBy = time.Now().Add(s.opts.Timeout)
	s.log.Warn("upgrade: supervisor: started again", "pid", p.pid, "generation", p.number, "version", p.version)
}
