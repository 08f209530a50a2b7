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

// A program that uses one of these modules can replace this program.
const (
	library = "github.com/midair-go/midair"
	sibling = "github.com/cloudflare/tableflip"
)

// Policy says which programs may replace this program. Each field of type error is for one kind of programs: Preflight refuses
// such a program with this error. The zero value allows all programs that can replace this program, except programs with
// another import path.
type Policy struct {
	SameBuild error                   // the error for the build that runs now; nil: allowed
	Other     bool                    // a program with another import path is allowed
	Plain     error                   // the error for a program that uses tableflip and not this library; nil: allowed
	Wrapper   error                   // the error for any other file without the mark; nil: allowed
	Verify    func(path string) error // upgrade.Options.Verify; nil: no check
}

// Preflight looks at the file before the start. It refuses a program that would certainly fail, or that is certainly the wrong
// program. The content of some files, such as a script, does not show whether the program is right. If the policy allows such a
// file, only the start shows whether it was right. A name without a separator is looked up in PATH, and a relative path begins
// at StartDir. The caller closes the program.
func Preflight(executable string, args []string, o Policy) (p Program, err error) {
	path, err := checkExecutable(executable)
	if err != nil {
		return p, err
	}
	p = Program{path: path, args: append([]string{executable}, args...)}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) && o.Verify == nil { // this process may execute the file, but not read it
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

// checkExecutable returns the path of the executable. If the file cannot be executed, the error explains the reason, because
// the error of the kernel would be less clear.
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

// lookup returns the path of the file to execute. lookup does not resolve symbolic links: after a release has changed a link,
// the same name leads to the new file.
func lookup(name string) (string, error) {
	if !strings.ContainsRune(name, filepath.Separator) {
		return exec.LookPath(name)
	}
	if filepath.IsAbs(name) {
		return name, nil
	}
	return filepath.Join(startDir, name), nil
}

// examine refuses a file because of its content, its build information or a missing mark.
func examine(file *os.File, marked bool, o Policy) error {
	if o.SameBuild != nil && sameBuild(file) {
		return fmt.Errorf("executable %s: %w: was the new one copied to its place?", file.Name(), o.SameBuild)
	}
	info, err := buildinfo.Read(file)
	if err != nil {
		info = nil // not a Go program, or a Go program without build information
	} else if err := suits(info, o); err != nil {
		return fmt.Errorf("executable %s: %w", file.Name(), err)
	}
	if marked || o.Wrapper == nil || info != nil && flipsOnly(info) {
		return nil
	}
	return fmt.Errorf("executable %s: %s %w", file.Name(), looks(file, info), o.Wrapper)
}

// looks describes a file without the mark, as the beginning of a refusal.
func looks(file *os.File, info *debug.BuildInfo) string {
	switch {
	case isScript(file):
		return "is a script and"
	case info != nil && uses(info, library):
		return "is of another version of this library (then stop the service and start it), or does not call upgrade.New, and"
	}
	return "does not carry the mark of a build with this library (is it packed, or a wrapper?) and"
}

// suits returns nil if a program with the given build information can replace this program. Otherwise it returns an error that
// says why the program cannot or should not replace this program.
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

// known reports whether the build information lists the modules of the program. The build information of a test binary does not
// list the modules. Some build systems other than go build leave the modules out too.
func known(info *debug.BuildInfo) bool {
	return len(info.Deps) > 0 || info.Main.Path != "" && !strings.HasSuffix(info.Path, ".test")
}

func uses(info *debug.BuildInfo, path string) bool {
	modules := append(slices.Clone(info.Deps), &info.Main)
	return slices.ContainsFunc(modules, func(m *debug.Module) bool { return m.Path == path })
}

// flipsOnly reports whether a program uses tableflip and not this library.
func flipsOnly(info *debug.BuildInfo) bool {
	return known(info) && !uses(info, library) && uses(info, sibling)
}

// named reports whether the build information contains the import path of the program: a program that was built from a list of
// files has none.
func named(info *debug.BuildInfo) bool {
	return info.Path != "" && info.Path != "command-line-arguments"
}

// setting returns the setting GOOS or GOARCH of a build. If the build information has no such setting, the result is the
// setting of this process.
func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return map[string]string{"GOOS": runtime.GOOS, "GOARCH": runtime.GOARCH}[key]
}

// RunsOwnBuild reports whether the process pid runs the same build as this process.
func RunsOwnBuild(pid int) bool {
	exe, err := os.Open(executableOf(pid))
	if err != nil {
		return false
	}
	defer exe.Close()
	return sameBuild(exe)
}

// sameBuild reports whether the file has the same content as the executable of this process. The name does not count.
func sameBuild(file *os.File) bool {
	if !CanRunDescriptor {
		return false // this system gives no access to the executable of this process after its file was replaced
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
	pa, pb := make([]byte, pieceSize), make([]byte, pieceSize)
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
