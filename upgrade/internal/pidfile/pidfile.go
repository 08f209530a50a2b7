// Package pidfile keeps the pid of the main generation in a file, and a text beside the file: how the last upgrade ended.
// Both are replaced whole, so that a reader never sees half of a text.
package pidfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/midair-go/midair/internal/sys"
)

// File keeps the pid of the main generation. The file is staged beside its place first, so that a directory without the
// right to write is found out before the commit and not afterwards.
type File struct {
	path   string // empty: there is no file
	staged bool
}

// New returns the file at path. With an empty path there is no file, and every method does nothing.
func New(path string) *File { return &File{path: path} }

// Stage writes the file beside its place. Stage may be called again: rights and directories may have changed meanwhile.
func (p *File) Stage() error {
	if p.path == "" || p.staged && p.canPublish() {
		return nil
	}
	p.staged = false
	if info, err := os.Stat(p.path); err == nil && info.IsDir() {
		return fmt.Errorf("pid file %s: is a directory", p.path)
	}
	name := p.stagedBy(os.Getpid())
	os.Remove(name) // left by a process that had the same pid and was killed
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("pid file %s: %w", p.path, err)
	}
	_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("pid file %s: %w", p.path, err)
	}
	p.staged = true
	return nil
}

// canPublish reports whether the staged file is still there and may be renamed.
func (p *File) canPublish() bool {
	_, err := os.Lstat(p.stagedBy(os.Getpid()))
	return err == nil && sys.MayWrite(filepath.Dir(p.path))
}

// stagedBy is the name under which a process stages the file.
func (p *File) stagedBy(pid int) string {
	return filepath.Join(filepath.Dir(p.path), "."+filepath.Base(p.path)+"."+strconv.Itoa(pid))
}

// Publish puts the file in its place. A file that is not staged, or whose staged file has gone, is staged first.
func (p *File) Publish() error {
	if p.path == "" {
		return nil
	}
	if err := p.Stage(); err != nil {
		return err
	}
	p.staged = false
	if err := os.Rename(p.stagedBy(os.Getpid()), p.path); err != nil {
		os.Remove(p.stagedBy(os.Getpid()))
		return fmt.Errorf("pid file %s: %w", p.path, err)
	}
	return nil
}

// Discard removes the files that a process, for instance a dead candidate, has staged and not published.
func (p *File) Discard(pid int) {
	if p.path != "" {
		os.Remove(p.stagedBy(pid))
		os.Remove(p.stagedBy(pid) + lastSuffix)
	}
}

// Owned reports whether the file names this process.
func (p *File) Owned() bool {
	b, err := os.ReadFile(p.path)
	return err == nil && strings.TrimSpace(string(b)) == strconv.Itoa(os.Getpid())
}

// Remove removes the file and the text beside the file if the file names this process, and the staged file of this process.
func (p *File) Remove() {
	p.Discard(os.Getpid())
	if p.path != "" && p.Owned() {
		os.Remove(p.path)
		os.Remove(p.path + lastSuffix)
	}
}

// WriteLast writes a text beside the pid file, whole or not at all.
func (p *File) WriteLast(text []byte) error {
	if p.path == "" {
		return nil
	}
	tmp := p.stagedBy(os.Getpid()) + lastSuffix
	err := os.WriteFile(tmp, text, 0o644)
	if err == nil {
		err = os.Rename(tmp, p.path+lastSuffix)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("%s: %w", p.path+lastSuffix, err)
	}
	return nil
}

// ReadLast returns the text that WriteLast of any process has written beside the pid file.
func ReadLast(pidFile string) ([]byte, error) { return os.ReadFile(pidFile + lastSuffix) }

// Read returns the pid that the file names.
func Read(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("pid file %s: %.40q is no pid of a service: is the file its Options.PIDFile?", file, b)
	}
	return pid, nil
}

// lastSuffix is what the file of WriteLast has after the name of the pid file.
const lastSuffix = ".last"
