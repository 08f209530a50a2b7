package subprocess

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/filelock"
	"github.com/midair-go/midair/internal/process"
)

// endsItself is how long a process whose host has ended may take to end, before the next host kills the process.
const endsItself = time.Second

// A place is the private directory of one process. The host holds the lock of the directory (flock), and the process holds the
// lock of a file in the directory, so the next host finds out which directories are without a host, and which process still uses
// such a directory. Programs that remove old files, such as systemd-tmpfiles, leave a locked directory alone, with all files in
// the directory.
type place struct {
	path string
	host *os.File // the directory
	base string   // the directory in which place is, if it is to be removed after its last place; else empty
}

// newPlace makes a place in the directory of the options. Before, newPlace removes the places of hosts that have ended, and kills
// the processes of these hosts.
func newPlace(ctx context.Context, o *Options) (*place, error) {
	base, prefix := o.Dir, o.Name+"~"
	turn, err := takeTurn(ctx, base, o.Name) // nobody removes a directory whose lock is about to be taken
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, fmt.Errorf("subprocess: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && e.IsDir() {
			if err := sweep(ctx, filepath.Join(base, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	p, err := makePlace(base, prefix)
	if err == nil && o.ownDir {
		p.base = base
	}
	return p, err
}

// takeTurn waits until no other host makes or removes places in base, and makes base if it is missing. The turn ends with Close.
func takeTurn(ctx context.Context, base, name string) (*os.File, error) {
	for {
		if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("subprocess: make Dir, of which only the last part may be missing: %w", err)
		}
		var turn *os.File
		err := secure(base, name)
		if err == nil {
			turn, err = os.OpenFile(base, os.O_RDONLY|syscall.O_DIRECTORY|filelock.NoFollow, 0)
		}
		if err == nil {
			if err = filelock.Wait(ctx, turn); err != nil {
				err = fmt.Errorf("wait for the lock of %s: %w", base, err)
			}
		}
		if err == nil && isAt(turn, base) {
			return turn, nil
		}
		turn.Close() // does nothing if turn is nil
		if err != nil && (ctx.Err() != nil || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("subprocess: %w", err)
		}
		// another host has removed base with its last place
	}
}

// isAt reports whether an open directory is the one that a path leads to.
func isAt(dir *os.File, path string) bool {
	was, err1 := dir.Stat()
	is, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(was, is)
}

// makePlace makes a place. The caller holds the lock of base.
func makePlace(base, prefix string) (*place, error) {
	path, err := os.MkdirTemp(base, prefix)
	if err != nil {
		return nil, fmt.Errorf("subprocess: %w", err)
	}
	host, free, err := lockDir(path)
	if err == nil && !free {
		err = fmt.Errorf("subprocess: another process has locked %s", path)
	}
	if err != nil {
		_ = os.RemoveAll(path)
		return nil, err
	}
	return &place{path: path, host: host}, nil
}

// lockDir locks a directory, if it is free. The caller closes the file, also if the directory is not free.
func lockDir(path string) (dir *os.File, free bool, err error) {
	dir, err = os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|filelock.NoFollow, 0)
	if err != nil {
		return nil, false, fmt.Errorf("subprocess: %w", err)
	}
	if free, err = filelock.Try(dir); err != nil {
		dir.Close()
		return nil, false, fmt.Errorf("subprocess: lock %s: %w", path, err)
	}
	return dir, free, nil
}

// secure checks that nobody else has rights in the directory base.
func secure(base, name string) error {
	info, err := os.Lstat(base)
	if err != nil {
		return err
	}
	switch uid := ownerOf(info); {
	case !info.IsDir():
		return fmt.Errorf("%s is no directory: choose another Dir", base)
	case uid != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, and this process to user %d: choose another Dir", base, uid, os.Geteuid())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s has the mode %#o: remove the rights of others (chmod 700), or choose another Dir", base, info.Mode().Perm())
	}
	if n := len(base + "/" + name + "~0000000000/plugin-dir0000000000/plugin0000000000"); n > maxSocket {
		return fmt.Errorf("%s has %d bytes, and the sockets in it would have %d, more than %d: choose a shorter Dir or Name", base, len(base), n, maxSocket)
	}
	return nil
}

// sweep removes a place whose host has ended, after the end of its process.
func sweep(ctx context.Context, path string) error {
	host, free, err := lockDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its host has removed it meanwhile
	}
	if err != nil {
		return err
	}
	defer host.Close()
	if !free {
		return nil // the host lives
	}
	if err := killClaimer(ctx, filepath.Join(path, processKey)); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("subprocess: remove what an ended host has left: %w", err)
	}
	return nil
}

// killClaimer kills the process that has claimed a file, unless the process ends by itself within endsItself.
func killClaimer(ctx context.Context, path string) error {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil // no process has claimed it
	}
	f, err := os.OpenFile(path, os.O_RDWR|filelock.NoFollow, 0)
	if err != nil {
		return fmt.Errorf("subprocess: %w", err)
	}
	defer f.Close()
	pid, err := claimedBy(f)
	if err != nil || pid <= 0 { // 0 if the process has ended, or is in another pid namespace
		return err
	}
	h, err := process.Open(pid)
	if err != nil {
		return nil // it has ended meanwhile
	}
	defer h.Close()
	if again, err := claimedBy(f); err != nil || again != pid { // another process may have got the number before Open
		return err
	}
	soon, cancel := context.WithTimeout(ctx, endsItself)
	defer cancel()
	if ended(soon, h) {
		return nil
	}
	if err := h.Kill(); err != nil {
		return fmt.Errorf("subprocess: kill process %d, whose host has ended: %w", pid, err)
	}
	if !ended(ctx, h) {
		return fmt.Errorf("subprocess: process %d, whose host has ended, was killed, and does not end: %w", pid, ctx.Err())
	}
	return nil
}

// ended waits for the end of a process, and reports whether it has come before that of ctx.
func ended(ctx context.Context, h *process.Handle) bool {
	for !h.Ended() {
		if ctx.Err() != nil {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

func (p *place) remove() {
	_ = os.RemoveAll(p.path)
	p.host.Close()
	if p.base == "" {
		return
	}
	if turn, free, err := lockDir(p.base); err == nil {
		if free {
			_ = os.Remove(p.base) // fails while there are other places
		}
		turn.Close()
	}
}
