// Package process starts programs that replace this program, and examines the programs before the start. It refers to a running
// process by a pidfd. It refers to a program that is to be started again by a descriptor of the executable.
//
//	preflight.go  Preflight: may this file be started in place of this program?
//	mark.go       which programs take their sockets from the control socket
//	start_unix.go Start: a child in the sense of tableflip, with a control socket
//	child.go      Child: a started process, from the starter's side
//	own.go        a child of this process: this process reaps the child, as reap_*.go shows
//	sibling_linux.go a child of this process's parent: the parent reaps the child
//	build.go      Build: a program that was committed, to be started again
//	handle_linux.go Handle: any process, by a pidfd
//	backoff.go    Backoff: how long to wait before the next start
//	oom.go        which of two generations is killed when memory runs out
//	proc.go       facts about this and other processes, from the kernel
//
// The package depends neither on listeners nor on the service manager: the caller passes the files and the environment for a
// process.
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

// StartDir returns the working directory of this process at its start; empty if it could not be read. Every generation starts
// in this directory, so relative paths keep their meaning, even if the program changes its directory.
func StartDir() string { return startDir }

// This is the part of the protocol of tableflip 1.2.3 that this package uses; tests run the package against parents and
// children with tableflip itself. A started process is a child in the sense of tableflip: tableflip.New in the child takes
// the files, and tableflip's Ready is the commit. This package implements the parent's half of the protocol itself, and does
// not call tableflip's Upgrade. Upgrade uses os.Args and the environment of this process, and does not return the pid. Upgrade
// can be neither cancelled nor repeated after a commit, and fails while the parent's parent still drains. If a child is ready
// and has exited, Upgrade chooses one of the two results at random.
//
//	descriptor 3   pipe to the parent; one byte 42 means ready
//	descriptor 4   pipe from the parent; names of the passed files as gob [][]string, and EOF when the parent has ended
//	descriptor 5+  the passed files, in the order of their names; if TakesSockets is true, only the control socket
//	environment    the sentinel variable
const (
	// Sentinel is the variable of the environment that is set in a process that was started as a child.
	Sentinel = inherited.Sentinel
	// FirstPassed is the descriptor of the first passed file.
	FirstPassed = 5
	// ControlName is the name under which a process passes the control socket to its child: as a plain file of tableflip.
	ControlName = "midair-control"

	readyByte  = 42
	exeName    = "midair-exe"
	namesLimit = 32 << 10 // so many bytes fit into a pipe: the parent writes all names before the child reads
)

// HasParent reports whether this process was started as a child. After Scrub the result is false.
func HasParent() bool { return os.Getenv(Sentinel) != "" }

// Inherited is an open file that a started process inherits. Its name in tableflip consists of kind, network and address.
type Inherited struct {
	Name [3]string
	FD   uintptr // the caller closes the descriptor
}

// Program is what Start starts.
type Program struct {
	path   string
	args   []string // the first is the name of the program
	exe    *os.File // the open file that is executed; nil: the file at path is executed
	marked bool     // the file has the mark (see mark.go)

	sibling bool                        // see AsSibling
	told    func(pid int) <-chan string // the argument of AsSibling
}

// AsSibling returns a program that Start makes a child of this process's parent. AsSibling is for a parent that is a service
// manager: a manager waits for its own children only, and looks up the parent of a process only once. The parent reaps the
// started process, and may report its end to this process. The function told returns the channel on which the report arrives;
// told may be nil. Without a report the exit status comes from the kernel, from Linux 6.15 on. On other systems than Linux,
// AsSibling has no effect. It also has no effect if this process is process 1, which has no parent.
func (p Program) AsSibling(told func(pid int) <-chan string) Program {
	p.sibling, p.told = true, told
	return p
}

// TakesSockets reports whether the program takes its sockets from the control socket. Any other program, such as a script or a
// program with tableflip only, has to inherit the sockets. It has the sockets open from its start on. If the program is a
// script, the processes that the script starts have the sockets open too.
func (p Program) TakesSockets() bool { return p.marked }

// Name returns the path of the program, or a description if the program has no path.
func (p Program) Name() string {
	if p.path == "" {
		return "the earlier build"
	}
	return p.path
}

// Close closes the executable, if the program has it open. Close must not be called before Start has returned.
func (p Program) Close() {
	if p.exe != nil {
		p.exe.Close()
	}
}

// Start starts a program with a control socket and with the given files. The process is a child in the sense of tableflip,
// leads a process group of its own, begins in StartDir, has the standard descriptors of this process, and is reaped at its end.
// If an operator can remove the cause of an error, the text of the error says how.
//
// Before the program is executed, Start calls the function queue, unless it is nil, with the end of the control socket for
// this process. The messages that queue sends wait in the socket for the program, even if this process ends. If the program
// takes its sockets from these messages, the caller has to call Child.Took.
func Start(p Program, env []string, files []Inherited, queue func(control *os.File) error) (*Child, error) {
	return start(p, env, files, queue)
}

// StdFD returns the descriptor 0, 1 or 2 for the list of a child's descriptors. If the descriptor is closed in this process,
// StdFD returns the greatest number. In the list this number means that the descriptor is closed in the child too.
func StdFD(fd uintptr) uintptr { return stdFD(fd) }

// Scrub removes the variable Sentinel from the environment, and calls RestoreName. With the variable, every process that this
// process starts would believe that it was started for an upgrade. Scrub need not make the inherited files close-on-exec,
// because package inherited has done so.
func Scrub() {
	os.Unsetenv(Sentinel)
	RestoreName()
}
