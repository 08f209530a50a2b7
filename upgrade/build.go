package upgrade

import (
	"fmt"
	"os"
	"slices"
)

// startDir is the directory that the program was started in. Relative paths keep their meaning and every generation
// starts where the first one did, whatever the program changes its directory to.
var startDir, _ = os.Getwd()

// startArgs are the arguments that this process was started with, its name first.
var startArgs = slices.Clone(os.Args)

// build is a program that was committed: its executable, by a descriptor that outlives the file, and what it was started
// with.
type build struct {
	exe     *os.File
	args    []string // its name first
	env     []string // nil: not known
	version string
}

// ownBuild is the build that this process runs. The caller closes it.
func ownBuild(version string) (*build, error) {
	exe, err := openSelf()
	if err != nil {
		return nil, err
	}
	return &build{exe: exe, args: startArgs, version: version}, nil
}

// program returns what starts the build again. The caller closes it.
func (b *build) program() (program, error) {
	exe, err := dupFile(b.exe)
	if err != nil {
		return program{}, fmt.Errorf("the executable of the earlier build: %w", err)
	}
	return program{args: b.args, exe: exe}, nil
}

// same reports whether two builds are the same file.
func (b *build) same(o *build) bool {
	x, err1 := b.exe.Stat()
	y, err2 := o.exe.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// close closes the descriptor. The build may be nil.
func (b *build) close() {
	if b != nil {
		b.exe.Close()
	}
}
