package process

import (
	"fmt"
	"os"

	"github.com/midair-go/midair/internal/sys"
)

// CanRunDescriptor reports whether this system can execute an open file, even after the file was removed from its directory.
// Linux can do so by a path in /proc. If CanRunDescriptor is false, Own and Program.Build return an error.
const CanRunDescriptor = canRunDescriptor

// Build is what is needed to start a program again: the executable, and the arguments and the environment of the start. The
// executable is an open file, so the program can be started even if the file was removed or replaced.
type Build struct {
	Exe     *os.File
	Args    []string // the first is the name of the program
	Env     []string // nil: the environment is not known
	Version string
}

// Own returns the build of this process. The caller closes the build.
func Own(version string) (*Build, error) {
	exe, err := openSelf()
	if err != nil {
		return nil, err
	}
	return &Build{Exe: exe, Args: startArgs, Version: version}, nil
}

// Program returns a program that starts the build again. The caller closes the program.
func (b *Build) Program() (Program, error) {
	exe, err := sys.DupFile(b.Exe)
	if err != nil {
		return Program{}, fmt.Errorf("the executable of the earlier build: %w", err)
	}
	return Program{args: b.Args, exe: exe, marked: hasMarkAt(descriptorPath(sys.FD(exe), false))}, nil
}

// Build returns a build that starts the program again. Build must be called before Start. The caller closes the build.
func (p Program) Build(env []string) (*Build, error) {
	b := &Build{Args: p.args, Env: env}
	var err error
	if p.exe != nil {
		b.Exe, err = sys.DupFile(p.exe)
	} else {
		b.Exe, err = openPath(p.path)
	}
	if err != nil {
		return nil, fmt.Errorf("the executable: %w", err)
	}
	return b, nil
}

// Started is called when the program was started as process pid. The file may have been replaced between Program.Build and
// Start. So Started makes the executable of the process the executable of the build. For a script Started changes nothing,
// since the process runs the interpreter.
func (b *Build) Started(pid int) {
	exe, err := openPath(executableOf(pid))
	if err != nil {
		return // the executable of the process cannot be opened, so the file stays that Program.Build has opened
	}
	runs := &Build{Exe: exe}
	if !b.Same(runs) && !b.IsScript() {
		b.Exe, exe = exe, b.Exe
	}
	exe.Close()
}

// IsScript reports whether the executable begins with "#!". The result is false if the file cannot be read.
func (b *Build) IsScript() bool {
	f, err := os.Open(descriptorPath(sys.FD(b.Exe), false))
	if err != nil {
		return false
	}
	defer f.Close()
	return isScript(f)
}

func isScript(f *os.File) bool {
	head := make([]byte, 2)
	n, _ := f.ReadAt(head, 0)
	return string(head[:n]) == "#!"
}

// TakesSockets reports whether the program takes its sockets from a control socket: see Program.TakesSockets.
func (b *Build) TakesSockets() bool { return hasMarkAt(descriptorPath(sys.FD(b.Exe), false)) }

// Same reports whether the executables of two builds are the same file.
func (b *Build) Same(o *Build) bool {
	x, err1 := b.Exe.Stat()
	y, err2 := o.Exe.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// Close closes the executable. The build may be nil.
func (b *Build) Close() {
	if b != nil {
		b.Exe.Close()
	}
}
