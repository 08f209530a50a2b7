package process

import (
	"fmt"
	"os"

	"github.com/midair-go/midair/internal/sys"
)

// CanRunDescriptor says that an open file can be executed, whatever becomes of its name: /proc does that. Without it there
// is no Build to hold.
const CanRunDescriptor = canRunDescriptor

// Build is a program that was committed: its executable, by a descriptor that outlives the file, and what the program was
// started with.
type Build struct {
	Exe     *os.File
	Args    []string // its name first
	Env     []string // nil: not known
	Version string
}

// Own returns the build that this process runs. The caller closes it.
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

// Close closes the executable. The build may be nil.
func (b *Build) Close() {
	if b != nil {
		b.Exe.Close()
	}
}
