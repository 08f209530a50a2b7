package supervisor

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"golang.org/x/sys/unix"
)

// launch is the start of a program. The program gets the held sockets. The method run starts the program in another goroutine,
// because the kernel may take long to read the executable, and sets the fields from handle to err. The loop sets all other
// fields. The loop receives the launch when run has returned. Until then messages and ends of processes wait, because their
// meaning depends on whether the program runs.
type launch struct {
	build    *process.Build
	rollback *process.Build // the build to which a Rollback in the new process would go back; nil: none
	number   int
	report   *Report // why the program is started; nil for the first program
	held     []kept
	meetings []meeting
	others   []introduction
	attr     *syscall.SysProcAttr
	watchdog time.Duration
	log      *slog.Logger

	handle  *process.Handle
	channel *os.File // the supervisor's end of the channel to the new process
	passing *passing
	met     []*proc // the processes in meetings that have got a control socket to the new process
	err     error   // why the program does not run; nil: the program runs

	due     time.Time   // when the loop logs that the start takes too long
	signals []os.Signal // received during the start
	stopBy  time.Time   // when the service ends although the start is under way; zero: no stop was asked for
}

// run starts the program. If run sets l.err, no program runs.
func (l *launch) run() {
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		l.err = err
		return
	}
	defer theirs.Close()
	if l.err = l.start(ours, theirs); l.err != nil {
		ours.Close()
		return
	}
	l.channel = ours
}

func (l *launch) start(ours, theirs *os.File) (err error) {
	done, err := l.addRollback()
	if err != nil {
		return process.ExplainStart(l.build.Args[0], err)
	}
	defer done()
	if l.build.TakesSockets() {
		if l.passing, err = queue(ours, l.held); err != nil {
			return sys.Explain(fmt.Errorf("pass sockets to %s: %w", l.build.Args[0], err))
		}
	}
	l.introduce(ours)
	pid, err := l.exec(theirs)
	if err != nil {
		return process.ExplainStart(l.build.Args[0], err)
	}
	if l.handle, err = process.Open(pid); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL) // the child is not reaped yet, so the pid is still the child's
		return sys.Explain(err)
	}
	return nil
}

// addRollback puts two files before the held sockets: the executable and the arguments of the build to which a Rollback in the
// new process would go back. The function done closes the file of the arguments.
func (l *launch) addRollback() (done func(), err error) {
	if l.rollback == nil {
		return func() {}, nil
	}
	args, err := state.WriteBuild(l.rollback)
	if err != nil {
		return nil, err
	}
	l.held = append([]kept{{name: previousExe, file: l.rollback.Exe}, {name: previousArgs, file: args}}, l.held...)
	return func() { args.Close() }, nil
}

// introduce makes a control socket between each process in meetings and the new process, and a broadcast socket between each
// generation and the new process. It sends one end to each of the two processes. The new process is not executed yet, so the
// messages to it wait in its channel.
func (l *launch) introduce(channel *os.File) {
	for _, m := range l.meetings {
		if err := m.arrange(channel); err != nil { // dismiss tries again when the new process serves
			l.log.Warn("upgrade: supervisor: an orphan does not know yet which process is started in its place", "pid", m.orphan.pid, "err", err)
			continue
		}
		l.met = append(l.met, m.orphan)
	}
	for _, o := range l.others {
		if err := o.arrange(channel, l.number); err != nil {
			l.log.Warn("upgrade: supervisor: broadcasts do not reach a generation", "generation", o.number, "pid", o.pid, "err", err)
		}
	}
}

func (l *launch) exec(channel *os.File) (pid int, err error) {
	files := []uintptr{process.StdFD(0), process.StdFD(1), process.StdFD(2)}
	env := append([]string{generationEnv + "=" + strconv.Itoa(l.number)}, l.build.Env...)
	if l.watchdog > 0 {
		env = append(env, sdnotify.WatchdogEnv+"="+strconv.FormatInt(l.watchdog.Microseconds(), 10))
	}
	if l.report != nil {
		why, err := json.Marshal(l.report)
		if err != nil {
			return 0, err
		}
		env = append(env, outcomeEnv+"="+string(why))
	}
	if l.passing != nil {
		env = append(env, sdnotify.SocketsEnv+"="+strconv.Itoa(l.passing.total))
	} else if len(l.held) > 0 { // for a script, or another program that takes no sockets from its channel
		var names []string
		for _, k := range l.held {
			names = append(names, k.name)
			files = append(files, sys.FD(k.file))
		}
		env = append(env, "LISTEN_FDS="+strconv.Itoa(len(l.held)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	env = append(env, sdnotify.ChannelEnv+"="+strconv.Itoa(len(files)))
	files = append(files, sys.FD(channel))
	path, release, err := executable(l.build, &files)
	if err != nil {
		return 0, err
	}
	defer release()
	return syscall.ForkExec(path, l.build.Args, &syscall.ProcAttr{Dir: process.StartDir(), Env: env, Files: files, Sys: l.attr})
}

// mostSignals is how many signals can wait for the end of a start: as many as the Go runtime keeps.
const mostSignals = 64

// postpone keeps a signal until the start is over. If the signal asks the service to end, the start may take no longer than
// abortLimit from now on. SIGCHLD is not kept, since all ended children are reaped after the start.
func (l *launch) postpone(sig os.Signal, stops bool) {
	if sig != unix.SIGCHLD && len(l.signals) < mostSignals {
		l.signals = append(l.signals, sig)
	}
	if stops && l.stopBy.IsZero() {
		l.stopBy = time.Now().Add(abortLimit)
	}
}

// abandon kills the program, if it runs, because the service has ended during the start.
func (l *launch) abandon() {
	if l.err == nil {
		_ = l.handle.Kill()
		l.handle.Close()
		l.channel.Close()
	}
}

// executable returns the path by which a child opens the executable of a build, and a function to call after the start. The
// interpreter of a script needs an open descriptor of the file, so this descriptor is added to the files of the child. The
// descriptor of any other program closes when the program is executed.
func executable(b *process.Build, files *[]uintptr) (path string, release func(), err error) {
	if b.IsScript() {
		*files = append(*files, sys.FD(b.Exe))
		return "/proc/self/fd/" + strconv.Itoa(len(*files)-1), func() {}, nil
	}
	exe, err := unix.FcntlInt(sys.FD(b.Exe), unix.F_DUPFD_CLOEXEC, above(*files))
	if err == unix.EINVAL { // fcntl returns EINVAL for a number over the limit of open files
		err = unix.EMFILE
	}
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(exe), func() { unix.Close(exe) }, nil
}

// above returns a number for the descriptor of the executable that ForkExec does not overwrite in the child. ForkExec first
// moves some of the files to numbers above the highest number in use, and then all files to the numbers from 0 up.
func above(files []uintptr) int {
	highest := len(files)
	for _, fd := range files {
		if fd != ^uintptr(0) {
			highest = max(highest, int(fd))
		}
	}
	return highest + len(files) + 2
}
