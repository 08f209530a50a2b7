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

// launch is the start of a program, with everything that is held. The loop fills in what is known, run does the rest in another
// goroutine, since the kernel may take long to read the executable, and the loop takes the result. Messages and ends of
// processes wait meanwhile: their meaning depends on whether the program runs.
type launch struct {
	build    *process.Build
	rollback *process.Build // what a Rollback of the process would go back to; nil: nothing
	number   int
	report   *Report // why the program is started; nil for the first program
	held     []kept
	meetings []meeting
	attr     *syscall.SysProcAttr
	watchdog time.Duration
	log      *slog.Logger

	handle  *process.Handle
	channel *os.File // the supervisor's end
	passing *passing
	met     []*proc // the orphans that have a socket to the new process
	err     error   // the program does not run

	due     time.Time   // when the start has taken too long
	signals []os.Signal // received during the start
	stopBy  time.Time   // when a stop no longer waits for the start; zero: no stop was asked for
}

// run starts the program. An error in err means that no program has run.
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
		_ = unix.Kill(pid, unix.SIGKILL) // the child is not reaped yet
		return sys.Explain(err)
	}
	return nil
}

// addRollback adds the build to which a Rollback of the process would go back. The build comes before the sockets.
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

// introduce sends the orphans and the new process the sockets to each other.
func (l *launch) introduce(channel *os.File) {
	for _, m := range l.meetings {
		if err := m.arrange(channel); err != nil { // arranged again when the process serves
			l.log.Warn("upgrade: supervisor: an orphan does not know yet which process is started in its place", "pid", m.orphan.pid, "err", err)
			continue
		}
		l.met = append(l.met, m.orphan)
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
	} else if len(l.held) > 0 { // a script, or a program that does not take them from its channel
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

// mostSignals is how many signals wait for a start: as many as the runtime keeps.
const mostSignals = 64

// postpone keeps a signal for the process of the start. A stop waits for the start a moment only. After the start all ended
// children are reaped.
func (l *launch) postpone(sig os.Signal, stops bool) {
	if sig != unix.SIGCHLD && len(l.signals) < mostSignals {
		l.signals = append(l.signals, sig)
	}
	if stops && l.stopBy.IsZero() {
		l.stopBy = time.Now().Add(abortLimit)
	}
}

// abandon ends a program started too late.
func (l *launch) abandon() {
	if l.err == nil {
		_ = l.handle.Kill()
		l.handle.Close()
		l.channel.Close()
	}
}

// executable returns how a child is to name the executable of a build. The interpreter of a script needs an open descriptor of
// the file, so the descriptor is among the files of the child; the descriptor of a program closes with the execution.
func executable(b *process.Build, files *[]uintptr) (path string, release func(), err error) {
	if b.IsScript() {
		*files = append(*files, sys.FD(b.Exe))
		return "/proc/self/fd/" + strconv.Itoa(len(*files)-1), func() {}, nil
	}
	exe, err := unix.FcntlInt(sys.FD(b.Exe), unix.F_DUPFD_CLOEXEC, above(*files))
	if err == unix.EINVAL { // what fcntl returns for a number over the limit
		err = unix.EMFILE
	}
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(exe), func() { unix.Close(exe) }, nil
}

// above returns a number that no descriptor gets while the files are put into their places in the child, by way of others
// behind the highest number: the executable must still be open afterwards.
func above(files []uintptr) int {
	highest := len(files)
	for _, fd := range files {
		if fd != ^uintptr(0) {
			highest = max(highest, int(fd))
		}
	}
	return highest + len(files) + 2
}
