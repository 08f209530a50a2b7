// Package process starts programs that take over from this one, looks at them before they are started, and keeps hold of
// them: by a pidfd while they run, by a descriptor of their executable when they are to run again.
//
//	preflight.go  Preflight: may this file be started in place of this program?
//	mark.go       which programs take their sockets from the control socket
//	start_unix.go Start: a child in the sense of tableflip, with a control socket
//	child.go      Child: a started process, from the starter's side
//	own.go        a child of this process, which is waited for; reap_*.go: how its number is given back
//	sibling_linux.go a child of this process's parent, which is not
//	build.go      Build: a program that was committed, to be started again
//	handle_linux.go Handle: any process, by a pidfd
//	backoff.go    Backoff: how long to wait before the next start
//	oom.go        which of two generations is killed when memory runs out
//	proc.go       what the kernel says about this and other processes
//
// It knows neither listeners nor the service manager: what a process inherits and its environment come from the caller.
package process

import (
	"os"
	"slices"

	"github.com/midair-go/midair/internal/inherited"
)

// startDir and startArgs are the directory and the arguments at the start of this process: a program may change its directory
// and os.Args.
var (
	startDir, _ = os.Getwd()
	startArgs   = slices.Clone(os.Args)
)

// StartDir returns the directory of this process at its start; empty if that was not readable. Every generation starts there,
// and relative paths keep their meaning, whatever the program changes its directory to.
func StartDir() string { return startDir }

// What this package uses of tableflip's protocol, version 1.2.3, against whose own parents and children it is tested. A
// started process is a child in the sense of tableflip: tableflip.New in it takes the files, tableflip's Ready is the
// commit. The starting process speaks the parent's half of the protocol here and not through tableflip's Upgrade, because
// Upgrade reads os.Args and the environment of the whole process, hides the pid, can be neither cancelled nor repeated
// after a commit, picks at random between "ready" and "exited", and refuses while the parent's parent still drains.
//
//	descriptor 3   pipe to the parent; one byte 42 means ready
//	descriptor 4   pipe from the parent; names of the passed files as gob [][]string, then EOF when the parent ends
//	descriptor 5+  the passed files, in the order of their names; one that TakesSockets gets the control socket only
//	environment    the sentinel variable
const (
	// Sentinel is the variable of the environment that says that a process was started as a child.
	Sentinel = inherited.Sentinel
	// FirstPassed is the descriptor of the first passed file.
	FirstPassed = 5
	// ControlName is tableflip's name of the control socket, among its plain files.
	ControlName = "midair-control"

	readyByte  = 42
	exeName    = "midair-exe"
	namesLimit = 32 << 10 // must fit into a pipe: the names are written before anybody reads
)

// HasParent reports whether this process was started as a child, until Scrub.
func HasParent() bool { return os.Getenv(Sentinel) != "" }

// Inherited is an open file for a started process, under its name in tableflip: kind, network, address.
type Inherited struct {
	Name [3]string
	FD   uintptr // stays the caller's
}

// Program is what Start starts.
type Program struct {
	path   string
	args   []string // its name first
	exe    *os.File // the open file that is executed in place of the path, if it is set
	marked bool

	sibling bool
	told    func(pid int) <-chan string
}

// AsSibling returns a program that is started as a child of this process's parent: a service manager waits for its own children
// only, and looks up the parent of a process only once. The parent reaps the process. The function told, if there is one,
// returns where the parent reports how the process has ended; else the kernel reports that, from Linux 6.15 on. AsSibling makes
// no difference where this process is process 1, which has no parent, nor elsewhere than on Linux.
func (p Program) AsSibling(told func(pid int) <-chan string) Program {
	p.sibling, p.told = true, told
	return p
}

// TakesSockets reports whether the program takes its sockets from the control socket. Any other program has to get the sockets
// as files when it is executed, and so holds the sockets from then on: a script, with all processes that it starts, or a
// program with tableflip only.
func (p Program) TakesSockets() bool { return p.marked }

// Name is the path of the program; a description if the program has no path.
func (p Program) Name() string {
	if p.path == "" {
		return "the earlier build"
	}
	return p.path
}

// Close closes the executable, if the program holds an executable. Close is called when Start has returned.
func (p Program) Close() {
	if p.exe != nil {
		p.exe.Close()
	}
}

// Start starts a program with a control socket and with the given files. The process is a child in the sense of tableflip,
// leads a process group of its own, begins in StartDir, has the standard descriptors of this process, and is reaped at its end.
// The error says what to do where an operator can do something.
//
// The function queue, if there is one, gets this end of the control socket before the program is executed: the messages that
// queue sends wait in the socket for the program, whatever becomes of this process. With a program that takes its sockets from
// there, see Child.Took.
func Start(p Program, env []string, files []Inherited, queue func(control *os.File) error) (*Child, error) {
	return start(p, env, files, queue)
}

// StdFD returns the descriptor 0, 1 or 2 for a child; none if the descriptor is closed here, so that it is closed in the child
// too.
func StdFD(fd uintptr) uintptr { return stdFD(fd) }

// Scrub hides the variable of tableflip from the processes that this process starts: each of them would believe that it has a
// parent. A process that was started from a descriptor gets the name of its program. Package inherited has hidden the files.
func Scrub() {
	os.Unsetenv(Sentinel)
	RestoreName()
}
