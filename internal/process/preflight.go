package process

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/midair-go/midair/internal/sys"
)

// library and sibling are the modules with which a program can take over.
const (
	library = "github.com/midair-go/midair"
	sibling = "github.com/cloudflare/tableflip"
)

// Policy says what may replace this program. The zero value allows every program that could.
type Policy struct {
	SameBuild error                   // what the build that runs already is refused with; nil: it is let through
	Other     bool                    // another program is meant
	Plain     error                   // what a program that knows tableflip only is refused with; nil: it is let through
	Wrapper   error                   // the same for any other file whose program does not say that it takes its sockets from the control socket
	Verify    func(path string) error // Options.Verify
}

// Preflight looks at the file before the start: a program that would certainly fail, or is surely not meant, is refused here.
// What cannot be read from the file, of a script for instance, has to show itself, if the policy lets such a file through. A
// bare name of the executable is looked up in PATH, a relative path counts from the start directory. The caller closes the
// program.
func Preflight(executable string, args []string, o Policy) (p Program, err error) {
	path, err := checkExecutable(executable)
	if err != nil {
		return p, err
	}
	p = Program{path: path, args: append([]string{executable}, args...)}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) && o.Verify == nil { // it may be executed, and not read
		if p.marked = hasMarkAt(path); !p.marked && o.Wrapper != nil {
			return p, fmt.Errorf("executable %s: cannot be read, so nobody knows what it is, and it %w", path, o.Wrapper)
		}
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("executable: %w", err)
	}
	defer func() {
		if p.exe == nil {
			file.Close()
		}
	}()
	p.marked = hasMark(file)
	if err := examine(file, p.marked, o); err != nil || o.Verify == nil {
		return p, err
	}
	name := path
	if CanRunDescriptor {
		name = descriptorPath(sys.FD(file), true)
	}
	if err := o.Verify(name); err != nil {
		return p, fmt.Errorf("executable %s: Options.Verify: %w", path, err)
	}
	if CanRunDescriptor {
		p.exe = file
	}
	return p, nil
}

// checkExecutable explains a refusal for which the kernel would answer with a bare errno, or not at all.
func checkExecutable(name string) (string, error) {
	if startDir == "" {
		return "", errors.New("the directory that the program was started in was not readable")
	}
	if _, err := os.Stat(startDir); err != nil {
		return "", fmt.Errorf("the directory that the program was started in is gone: %w", err)
	}
	path, err := lookup(name)
	if err != nil {
		return "", fmt.Errorf("executable: %w", err)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("executable: %w", err)
	case info.IsDir():
		return "", fmt.Errorf("executable %s: is a directory", path)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("executable %s: is no regular file (mode %s)", path, info.Mode())
	}
	if err := mayExecute(path); err != nil {
		return "", fmt.Errorf("executable %s: not executable (mode %s): %w", path, info.Mode(), err)
	}
	return filepath.Clean(path), nil
}

// lookup finds the file to execute without following symbolic links, so a link that a release moves is seen.
func lookup(name string) (string, error) {
	if !strings.ContainsRune(name, filepath.Separator) {
		return exec.LookPath(name)
	}
	if filepath.IsAbs(name) {
		return name, nil
	}
	return filepath.Join(startDir, name), nil
}

// examine reads the build information of the file, if there is some.
func examine(file *os.File, marked bool, o Policy) error {
	if o.SameBuild != nil && sameBuild(file) {
		return fmt.Errorf("executable %s: %w: was the new one copied to its place?", file.Name(), o.SameBuild)
	}
	info, err := buildinfo.Read(file)
	if err != nil {
		info = nil // not a Go program, or one without: it will tell
	} else if err := suits(info, o); err != nil {
		return fmt.Errorf("executable %s: %w", file.Name(), err)
	}
	if marked || o.Wrapper == nil || info != nil && flipsOnly(info) {
		return nil
	}
	return fmt.Errorf("executable %s: %s %w", file.Name(), looks(file, info), o.Wrapper)
}

// looks describes a file without the mark.
func looks(file *os.File, info *debug.BuildInfo) string {
	switch {
	case isScript(file):
		return "is a script and"
	case info != nil && uses(info, library):
		return "is of another version of this library (then stop the service and start it), or does not call upgrade.New, and"
	}
	return "does not carry the mark of a build with this library (is it packed, or a wrapper?) and"
}

// suits says why a program with the given build information cannot replace this program, or is not meant to.
func suits(info *debug.BuildInfo, o Policy) error {
	if goos, goarch := setting(info, "GOOS"), setting(info, "GOARCH"); goos != runtime.GOOS || goarch != runtime.GOARCH {
		return fmt.Errorf("is built for %s/%s, this machine needs %s/%s", goos, goarch, runtime.GOOS, runtime.GOARCH)
	}
	switch {
	case known(info) && !uses(info, library) && !uses(info, sibling):
		return fmt.Errorf("is %s and does not use %s, so it could not take over: is it the right program?", info.Path, library)
	case flipsOnly(info) && o.Plain != nil:
		return fmt.Errorf("is %s, which knows tableflip only, and %w", info.Path, o.Plain)
	}
	own, ok := debug.ReadBuildInfo()
	if ok && !o.Other && named(own) && named(info) && own.Path != info.Path {
		return fmt.Errorf("is %s, and %s is running: if that is meant, use Restart", info.Path, own.Path)
	}
	return nil
}

// known reports whether a build names its modules: builds of go test, and of other build systems, do not.
func known(info *debug.BuildInfo) bool {
	return len(info.Deps) > 0 || info.Main.Path != "" && !strings.HasSuffix(info.Path, ".test")
}

func uses(info *debug.BuildInfo, path string) bool {
	modules := append(slices.Clone(info.Deps), &info.Main)
	return slices.ContainsFunc(modules, func(m *debug.Module) bool { return m.Path == path })
}

// flipsOnly reports whether a build knows tableflip only.
func flipsOnly(info *debug.BuildInfo) bool {
	return known(info) && !uses(info, library) && uses(info, sibling)
}

// named reports whether the path of a program identifies the program: a program that was built from a list of files has no path
// of its own.
func named(info *debug.BuildInfo) bool {
	return info.Path != "" && info.Path != "command-line-arguments"
}

// setting returns the system or the architecture of a build; this machine's if the build names none.
func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return map[string]string{"GOOS": runtime.GOOS, "GOARCH": runtime.GOARCH}[key]
}

// RunsOwnBuild reports whether another process runs the build of this process.
func RunsOwnBuild(pid int) bool {
	exe, err := os.Open(executableOf(pid))
	if err != nil {
		return false
	}
	defer exe.Close()
	return sameBuild(exe)
}

// sameBuild reports whether the file has the content of the file that this process runs, whatever the name.
func sameBuild(file *os.File) bool {
	if !CanRunDescriptor {
		return false // what runs cannot be read there once its file was replaced
	}
	self, err := os.Open(executableOf(os.Getpid()))
	if err != nil {
		return false
	}
	defer self.Close()
	a, err1 := self.Stat()
	b, err2 := file.Stat()
	switch {
	case err1 != nil || err2 != nil || a.Size() != b.Size():
		return false
	case os.SameFile(a, b):
		return true
	}
	return sameContent(io.NewSectionReader(self, 0, a.Size()), io.NewSectionReader(file, 0, b.Size()))
}

func sameContent(a, b io.Reader) bool {
	const piece = 256 << 10
	pa, pb := make([]byte, piece), make([]byte, piece)
	for {
		na, err1 := io.ReadFull(a, pa)
		nb, err2 := io.ReadFull(b, pb)
		if !bytes.Equal(pa[:na], pb[:nb]) {
			return false
		}
		if err1 != nil || err2 != nil {
			return ended(err1) && ended(err2)
		}
	}
}

// ended reports whether all of a file was read.
func ended(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
