// Package statefile keeps a small state in a file which several processes read and change.
//
// [File.Update] reads, changes and replaces the file under a lock, so that processes which change the file at once lose nothing.
// A reader sees the old content or the new content, never a part. When Update has returned nil the new content is on the disk. A
// process that dies at any moment leaves a file that can be read, and is in nobody's way.
//
// Beside the file NAME there are NAME.lock, which stays, and NAME.part while a process writes. All have mode 0600. The directory
// has to exist. A symbolic link is never followed: Read refuses the link, and Update replaces it.
//
// # Goroutines
//
// A File may be used from any number of goroutines.
package statefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/filelock"
)

// MaxSize is the largest size of a file, in bytes.
const MaxSize = 1 << 20

// ErrUnfit is the error of Read for what Update never leaves behind: a symbolic link, a special file, or a file with
// more than MaxSize bytes.
var ErrUnfit = errors.New("no file of this library")

// A File is the path of a file, and how long Update waits for other processes.
type File struct {
	Path string
	// LockWait is how long Update waits for the lock of the file.
	LockWait time.Duration
	// If Step is not nil, Update calls Step with the name of each finished step. Tests kill a process there.
	Step func(name string)
}

// Read returns the content. The error wraps fs.ErrNotExist if there is no file.
func (f File) Read() ([]byte, error) {
	info, err := os.Lstat(f.Path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %w: it is %s", f.Path, ErrUnfit, kind(info.Mode()))
	}
	opened, err := os.OpenFile(f.Path, os.O_RDONLY|filelock.NoFollow, 0)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	data, err := io.ReadAll(io.LimitReader(opened, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s is %w: it has more than %d bytes", f.Path, ErrUnfit, MaxSize)
	}
	return data, nil
}

func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode.IsDir():
		return "a directory"
	}
	return "not a regular file"
}

// Update calls change with what Read returns, and replaces the file by the result. If change returns an error, the file does not
// change, and Update returns the error. Where the platform has no flock, processes that update the file at once can lose a
// change.
func (f File) Update(change func(old []byte, err error) ([]byte, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), f.LockWait)
	defer cancel()
	lock, err := filelock.Acquire(ctx, f.Path+".lock")
	switch {
	case err == nil:
		defer lock.Close() // and with it the lock is given back
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("another process has held the lock %s.lock for %v", f.Path, f.LockWait)
	case !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	f.done("locked")
	data, err := change(f.Read())
	if err != nil {
		return err
	}
	return f.replace(data)
}

// replace writes the file. Since the lock is held, the part file is nobody else's: a part file was left by a process that
// died.
func (f File) replace(data []byte) error {
	part := f.Path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.write(part, data); err != nil {
		_ = os.Remove(part)
		return err
	}
	if err := os.Rename(part, f.Path); err != nil {
		_ = os.Remove(part)
		return err
	}
	f.done("renamed")
	return syncDirectory(filepath.Dir(f.Path))
}

func (f File) write(name string, data []byte) error {
	part, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|filelock.NoFollow, 0o600)
	if err != nil {
		return err
	}
	defer part.Close()
	f.done("created")
	if _, err := part.Write(data); err != nil {
		return err
	}
	f.done("written")
	if err := part.Sync(); err != nil {
		return err
	}
	f.done("synced")
	return part.Close()
}

func (f File) done(step string) {
	if f.Step != nil {
		f.Step(step)
	}
}

// syncDirectory makes a new name in a directory outlive a power failure. Windows and some file systems cannot sync a
// directory, and neither can a process without the right to read the directory.
func syncDirectory(name string) error {
	dir, err := os.Open(name)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && runtime.GOOS != "windows" && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
