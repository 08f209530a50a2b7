package process

import (
	"fmt"
	"os"
	"slices"

	"github.com/midair-go/midair/internal/sys"
)

// startDir is the directory that the program was started in. Relative paths keep their meaning and every generation
// starts where the first one did, whatever the program changes its directory to.
var startDir, _ = os.Getwd()

// StartDir returns the directory that this process was started in; empty if it was not readable.
func StartDir() string { return startDir }

// startArgs are the arguments that this process was started with, its name first.
var startArgs = slices.Clone(os.Args)

// Build is a program that was committed: its executable, by a descriptor that outlives the file, and what it was started
// with.
type Build struct {
	Exe     *os.File
	Args    []string // its name first
	Env     []string // nil: not known
	Version string
}

// Own is the build that this process runs. The caller closes it.
func Own(version string) (*Build, error) {
	exe, err := openSelf()
	if err != nil {
		return nil, err
	}
	return &Build{Exe: exe, Args: startArgs, Version: version}, nil
}

// Program returns what starts the build again. The caller closes it.
func (b *Build) Program() (Program, error) {
	exe, err := sys.DupFile(b.Exe)
	if err != nil {
		return Program{}, fmt.Errorf("the executable of the earlier build: %w", err)
	}
	return Program{args: b.Args, exe: exe}, nil
}

// Same reports whether two builds are the same file.
func (b *Build) Same(o *Build) bool {
	x, err1 := b.Exe.Stat()
	y, err2 := o.Exe.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// Close closes the descriptor. The build may be nil.
func (b *Build) Close() {
	if b != nil {
		b.Exe.Close()
	}
}
