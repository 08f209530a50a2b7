//go:build linux

package pidfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stranger is the uid of a user without files.
const stranger = 65534

// plants has functions that put an object at path, as another user may do. The file at precious must not change.
var plants = map[string]func(path, precious string) error{
	"symbolic link": func(path, precious string) error { return os.Symlink(precious, path) },
	"hard link":     func(path, precious string) error { return os.Link(precious, path) },
	"dead link":     func(path, _ string) error { return os.Symlink(path+".nowhere", path) },
	"directory":     func(path, _ string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o777) },
	"FIFO":          func(path, _ string) error { return syscall.Mkfifo(path, 0o666) },
	"file":          func(path, _ string) error { return os.WriteFile(path, []byte("1\n"), 0o666) },
}

// shared makes a directory with the sticky bit where every user may write. It also returns the path of a precious file outside
// the directory.
func shared(t *testing.T) (dir, precious string) {
	t.Helper()
	top := t.TempDir()
	dir, precious = filepath.Join(top, "tmp"), filepath.Join(top, "precious")
	err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|os.ModeSticky), os.WriteFile(precious, []byte("precious"), 0o666))
	for at := top; err == nil && at != os.TempDir(); at = filepath.Dir(at) {
		err = os.Chmod(at, 0o755) // so that other users can reach the directory
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, precious
}

// mustDo fails the test if fn does not return, for example because it waits for a FIFO.
func mustDo(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it hangs")
	}
}

// Another user may plant an object at a name that this package uses, or that older builds used. Nothing is written through the
// object, and all methods still work.
func TestPlantedNamesPreventNothing(t *testing.T) {
	for kind, plant := range plants {
		for _, name := range []string{".pid.%d", ".pid.%d.last", "pid", "pid.last"} {
			if kind == "directory" && !strings.HasPrefix(name, ".") {
				continue // a directory cannot be replaced: TestPlantedDirectoryIsNamed
			}
			t.Run(kind+" "+name, func(t *testing.T) {
				dir, precious := shared(t)
				path := filepath.Join(dir, strings.ReplaceAll(name, "%d", fmt.Sprint(os.Getpid())))
				if err := plant(path, precious); err != nil {
					t.Fatal(err)
				}
				p := New(filepath.Join(dir, "pid"))
				mustDo(t, func() {
					if err := errors.Join(p.Stage(), p.Publish(), p.WriteLast([]byte("an outcome"))); err != nil {
						t.Error(err)
					}
					p.Discard(os.Getpid())
				})
				mustHold(t, precious, "precious")
				mustHold(t, p.path, ownPID())
				mustHold(t, p.path+lastSuffix, "an outcome")
				mustDo(t, func() { _ = p.Remove() })
				if _, err := os.Lstat(path + ".nowhere"); err == nil || p.Owned() {
					t.Errorf("a file behind the dead link: %v, or a pid file that is left", err)
				}
			})
		}
	}
}

// A file is always made new. If a file with its name exists, because the name was guessed, making the file fails.
func TestNewFileIsNew(t *testing.T) {
	dir, precious := shared(t)
	d, err := openDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for kind, plant := range plants {
		if err := plant(filepath.Join(dir, kind), precious); err != nil {
			t.Fatal(err)
		}
		mustDo(t, func() {
			if f, err := d.create(kind); !errors.Is(err, os.ErrExist) {
				f.Close()
				t.Errorf("over a %s: %v", kind, err)
			}
		})
	}
}

// If a directory is at the path of a file, it cannot be replaced. The error has the name of the file, and no staged file is
// left.
func TestPlantedDirectoryIsNamed(t *testing.T) {
	dir, precious := shared(t)
	p := New(filepath.Join(dir, "pid"))
	for name, act := range map[string]func() error{"pid": p.Publish, "pid.last": func() error { return p.WriteLast(nil) }} {
		if err := plants["directory"](filepath.Join(dir, name), precious); err != nil {
			t.Fatal(err)
		}
		if err := act(); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)+":") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := stagedIn(t, dir); len(left) > 0 || p.dir != nil {
		t.Errorf("left: %v, %v", left, p.dir)
	}
}

// inThread runs fn in a thread that ends after fn. It does not use the first thread of the process, because the first thread
// does not end, and /proc shows its uid as the uid of the process.
func inThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			err := inThread(fn) // this goroutine has the first thread, so the inner call gets another thread
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- fn() // the thread stays locked, so that no other goroutine gets it
	}()
	return <-done
}

// asStranger runs fn with another uid and no capability.
func asStranger(t *testing.T, fn func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may become another user")
	}
	err := inThread(func() error {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, stranger, stranger, stranger); errno != 0 {
			return errno
		}
		return fn()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Objects that another user plants in a sticky directory do not harm a service of root. The service does not remove them as its
// own files.
func TestStrangerPlantsInVain(t *testing.T) {
	dir, precious := shared(t)
	if err := os.Chmod(precious, 0o600); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(dir, fmt.Sprintf(".pid.%d.ABCDEFGHIJKLM", os.Getpid()))
	asStranger(t, func() error {
		errs := []error{os.WriteFile(theirs, nil, 0o666)}
		for _, name := range []string{fmt.Sprintf(".pid.%d", os.Getpid()), fmt.Sprintf(".pid.%d.last", os.Getpid()), "pid", "pid.last"} {
			errs = append(errs, os.Symlink(precious, filepath.Join(dir, name)))
		}
		return errors.Join(errs...)
	})
	p := New(filepath.Join(dir, "pid"))
	if err := errors.Join(p.Stage(), p.Publish(), p.WriteLast([]byte("an outcome"))); err != nil {
		t.Fatal(err)
	}
	p.Discard(os.Getpid())
	mustHold(t, precious, "precious")
	mustHold(t, p.path, ownPID())
	mustHold(t, p.path+lastSuffix, "an outcome")
	mustHold(t, theirs, "")
}

// If a service may not replace a file of another user, the error has the uid of the owner.
func TestFileOfAnotherUserIsNamed(t *testing.T) {
	dir, _ := shared(t)
	for _, name := range []string{"pid", "pid.last"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	asStranger(t, func() error {
		p := New(filepath.Join(dir, "pid"))
		for _, err := range []error{p.Publish(), p.WriteLast(nil)} {
			if err == nil || !strings.Contains(err.Error(), "it belongs to uid 0 and this process to uid 65534: remove it") {
				return fmt.Errorf("%v", err)
			}
		}
		return nil
	})
	if left := stagedIn(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A directory in which this user may make files, but which it may not list, is sufficient. If the directory is read-only, Stage
// returns an error.
func TestRightsOfTheDirectory(t *testing.T) {
	dir, _ := shared(t)
	p := New(filepath.Join(dir, "pid"))
	if err := os.Chmod(dir, 0o733|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	asStranger(t, func() error {
		err := errors.Join(p.Stage(), p.Publish(), p.WriteLast([]byte("an outcome")), p.Stage())
		p.Discard(os.Getpid())
		return errors.Join(err, p.Stage())
	})
	mustHold(t, p.path, ownPID())
	mustHold(t, p.path+lastSuffix, "an outcome")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	asStranger(t, func() error {
		if err := p.Stage(); !errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("a read-only directory: %w", err)
		}
		return nil
	})
}
