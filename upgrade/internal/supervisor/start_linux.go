package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
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

// start starts a build with everything that is held. out says why, if this is not the first. An error means that no program
// has run.
func (s *supervisor) start(b *process.Build, out *Report) error {
	s.reserve.Release() // for what a start needs
	defer s.reserve.Fill(reserveSize())
	number := s.nextNumber()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		return err
	}
	var p *passing
	if b.TakesSockets() {
		if p, err = s.queue(ours); err != nil {
			ours.Close()
			theirs.Close()
			return sys.Explain(fmt.Errorf("pass sockets to %s: %w", b.Args[0], err))
		}
	}
	s.introduceOrphans(ours, number)
	pid, err := s.exec(b, number, theirs, p, out)
	theirs.Close()
	if err != nil {
		ours.Close()
		return process.ExplainStart(b.Args[0], err)
	}
	proc, err := process.Open(pid)
	if err != nil {
		ours.Close()
		_ = unix.Kill(pid, unix.SIGKILL) // it is a child that nobody has waited for
		return sys.Explain(err)
	}
	s.console.lend(pid)
	g := s.follow(proc, ours)
	g.number, g.version, g.isMain, g.passing = number, b.Version, true, p
	if out != nil {
		g.due = time.Now().Add(s.opts.Timeout)
	}
	s.main = g
	if out != nil {
		s.log.Warn("upgrade: supervisor: started again", "pid", pid, "generation", number, "version", g.version)
	}
	return nil
}

// nextNumber is above those of the generation that has crashed and of its candidate.
func (s *supervisor) nextNumber() int {
	number := 1
	if s.crashed != nil {
		number = s.crashed.number + 1
	}
	for _, g := range s.gens {
		number = max(number, g.number+1)
	}
	return number
}

func (s *supervisor) exec(b *process.Build, number int, channel *os.File, p *passing, out *Report) (int, error) {
	files := []uintptr{process.StdFD(0), process.StdFD(1), process.StdFD(2)}
	env := append([]string{generationEnv + "=" + strconv.Itoa(number)}, b.Env...)
	if s.opts.Watchdog > 0 {
		env = append(env, sdnotify.WatchdogEnv+"="+strconv.FormatInt(s.opts.Watchdog.Microseconds(), 10))
	}
	if out != nil {
		why, err := json.Marshal(out)
		if err != nil {
			return 0, err
		}
		env = append(env, outcomeEnv+"="+string(why))
	}
	if p != nil {
		env = append(env, sdnotify.SocketsEnv+"="+strconv.Itoa(p.total))
	} else { // a script, or a program that does not take them from its channel
		held, done, err := s.held()
		if err != nil {
			return 0, err
		}
		defer done()
		var names []string
		for _, k := range held {
			names = append(names, k.name)
			files = append(files, sys.FD(k.file))
		}
		if len(held) > 0 {
			env = append(env, "LISTEN_FDS="+strconv.Itoa(len(held)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
		}
	}
	env = append(env, sdnotify.ChannelEnv+"="+strconv.Itoa(len(files)))
	files = append(files, sys.FD(channel))
	path, release, err := executable(b, &files)
	if err != nil {
		return 0, err
	}
	defer release()
	attr := &syscall.SysProcAttr{Setpgid: true}
	s.console.start(attr)
	return syscall.ForkExec(path, b.Args, &syscall.ProcAttr{Dir: process.StartDir(), Env: env, Files: files, Sys: attr})
}

// executable returns how a child is to name the executable of a build. A script needs it open when its interpreter reads it,
// so its descriptor is among the files of the child; that of a program closes with its execution.
func executable(b *process.Build, files *[]uintptr) (path string, release func(), err error) {
	if b.IsScript() {
		*files = append(*files, sys.FD(b.Exe))
		return "/proc/self/fd/" + strconv.Itoa(len(*files)-1), func() {}, nil
	}
	exe, err := unix.FcntlInt(sys.FD(b.Exe), unix.F_DUPFD_CLOEXEC, above(*files))
	if err == unix.EINVAL { // what fcntl says of a number over the limit
		err = unix.EMFILE
	}
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(exe), func() { unix.Close(exe) }, nil
}

// above returns a number that no descriptor gets while the files are put into their places in the child, by way of others
// behind the highest one: what is executed afterwards must still be there.
func above(files []uintptr) int {
	highest := len(files)
	for _, fd := range files {
		if fd != ^uintptr(0) {
			highest = max(highest, int(fd))
		}
	}
	return highest + len(files) + 2
}

// held is what the next process gets: what its Rollback would go back to, and the sockets.
func (s *supervisor) held() (all []kept, done func(), err error) {
	if s.before == nil || s.instead != nil {
		return slices.Clone(s.store.all), func() {}, nil
	}
	args, err := state.WriteBuild(s.before)
	if err != nil {
		return nil, nil, err
	}
	all = append(all, kept{name: previousExe, file: s.before.Exe}, kept{name: previousArgs, file: args})
	return append(all, s.store.all...), func() { args.Close() }, nil
}
