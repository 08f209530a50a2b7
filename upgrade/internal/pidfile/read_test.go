//go:build linux

package pidfile

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// put makes a file that belongs to the given uid.
func put(t *testing.T, path, content string, uid int) {
	t.Helper()
	_ = os.Remove(path) // the kernel may refuse to overwrite another user's file in a sticky directory (fs.protected_regular)
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o644), os.Chown(path, uid, -1)); err != nil {
		t.Fatal(err)
	}
}

// private makes a directory where only this user may write.
func private(t *testing.T) string {
	t.Helper()
	dir, _ := shared(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// processOf starts a process with the given uid.
func processOf(t *testing.T, uid uint32) int {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return cmd.Process.Pid
}

// mustRefuse fails the test unless err has all of the texts.
func mustRefuse(t *testing.T, what string, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", what, err, text)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may give files and processes to others")
	}
}

// Read accepts a pid file that belongs to root, to the uid of the reader or to the uid of the named process. It refuses a pid
// file of another uid.
func TestPIDFileOfAStrangerIsRefused(t *testing.T) {
	needRoot(t)
	dir, _ := shared(t)
	path := filepath.Join(dir, "pid")
	theirs, ours := processOf(t, stranger), os.Getpid()
	const other = stranger - 1
	for _, c := range []struct{ pid, owner, reader int }{
		{ours, 0, 0}, {theirs, stranger, 0}, {theirs, 0, 0}, {ours, stranger, stranger}, {ours, 0, stranger}, {theirs, 0, stranger},
	} {
		put(t, path, strconv.Itoa(c.pid)+"\n", c.owner)
		read := func() error {
			s, err := Read(path)
			if err == nil && s.PID != c.pid {
				err = fmt.Errorf("pid %d", s.PID)
			}
			return err
		}
		if c.reader != 0 {
			asStranger(t, read)
		} else if err := read(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	put(t, path, strconv.Itoa(ours), stranger)
	_, err := Read(path)
	mustRefuse(t, "of a stranger", err, path+": belongs to uid 65534, and pid "+strconv.Itoa(ours), "to uid 0:", "remove it")
	if New(path).Owned() {
		t.Error("a stranger's file that names this process is its own")
	}
	put(t, path, strconv.Itoa(theirs), other)
	_, err = Read(path)
	mustRefuse(t, "of another stranger", err, "belongs to uid 65533", "to uid 65534")
	put(t, path, strconv.Itoa(1<<30), stranger) // this process has ended, so a signal reaches no process
	if s, err := Read(path); err != nil || s.PID != 1<<30 {
		t.Errorf("of a process that has ended: %+v, %v", s, err)
	}
}

// A file that is large or not regular is refused without waiting, as a pid file and as an outcome.
func TestOddFilesAreRefused(t *testing.T) {
	dir := private(t)
	path := filepath.Join(dir, "pid")
	put(t, path, ownPID(), os.Geteuid())
	service, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	odd := map[string]func(path string) error{
		"large":  func(path string) error { return os.WriteFile(path, make([]byte, lastLimit+1), 0o600) },
		"socket": func(path string) error { return os.Link(filepath.Join(dir, "socket"), path) },
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
	}
	for _, kind := range []string{"FIFO", "directory", "dead link"} {
		odd[kind] = func(path string) error { return plants[kind](path, "") }
	}
	for kind, make := range odd {
		mustDo(t, func() {
			if err := errors.Join(os.RemoveAll(path), os.RemoveAll(path+lastSuffix), make(path), make(path+lastSuffix)); err != nil {
				t.Error(err)
			}
			_, err := Read(path)
			mustRefuse(t, kind, err, path)
			_, err = service.ReadLast()
			mustRefuse(t, kind, err, path+lastSuffix)
			if New(path).Owned() {
				t.Errorf("%s: it is owned", kind)
			}
		})
	}
}

// If a file is replaced by a symbolic link or a FIFO during a call, the call neither follows the link nor waits for a writer of
// the FIFO.
func TestFileThatIsReplacedWhileItIsRead(t *testing.T) {
	dir, precious := shared(t)
	path := filepath.Join(dir, "pid")
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { // the goroutine ends when stop is closed
		var err error
		for next := path + ".next"; err == nil; {
			for _, kind := range []string{"file", "symbolic link", "file", "FIFO"} {
				err = errors.Join(err, plants[kind](next, precious), os.Rename(next, path))
			}
			select {
			case <-stop:
				stopped <- err
				return
			default:
			}
		}
		stopped <- err
	}()
	mustDo(t, func() {
		for range 20000 {
			if b, _, err := readFile(path, pidLimit); err == nil && string(b) == "precious" {
				t.Error("a link was followed")
				return
			}
		}
	})
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Read follows a symbolic link in a directory where other users may not write, if the owner of the link could be the owner of
// the file. The outcome is beside the file, not beside the link.
func TestLinkedPIDFile(t *testing.T) {
	top := private(t)
	put(t, filepath.Join(top, "pid"), ownPID(), os.Geteuid())
	put(t, filepath.Join(top, "pid.last"), "an outcome", os.Geteuid())
	run := filepath.Join(top, "run")
	for _, err := range []error{
		os.Mkdir(run, 0o755), os.Symlink("../pid", filepath.Join(run, "relative")), os.Symlink(filepath.Join(run, "relative"), filepath.Join(run, "link")),
		os.Symlink("loop", filepath.Join(run, "loop")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(run, "link")
	s, err := Read(link)
	if err != nil || s.PID != os.Getpid() {
		t.Fatalf("%+v, %v", s, err)
	}
	if b, err := s.ReadLast(); err != nil || string(b) != "an outcome" {
		t.Errorf("%q, %v", b, err)
	}
	_, err = Read(filepath.Join(run, "loop"))
	mustRefuse(t, "a loop", err, "too many symbolic links")
	if err := os.Chmod(run, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	_, err = Read(link)
	mustRefuse(t, "a link where others may write", err, link, "symbolic link of uid "+strconv.Itoa(os.Geteuid()), "remove it")
}

// Read refuses a symbolic link of another user, even if it leads to a good pid file.
func TestLinkOfAStrangerIsRefused(t *testing.T) {
	needRoot(t)
	top := private(t)
	put(t, filepath.Join(top, "pid"), ownPID(), 0)
	inner, outer := filepath.Join(top, "inner"), filepath.Join(top, "outer")
	if err := errors.Join(os.Symlink("pid", inner), os.Symlink(inner, outer), os.Lchown(inner, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{inner, outer} {
		_, err := Read(path)
		mustRefuse(t, path, err, path+": belongs to uid 65534", "to uid 0")
	}
}

// A file with two names is refused in a directory where every user may write, because another user may have made the second
// name. It is accepted where other users may not write.
func TestHardLinkedFilesAreRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o777 | os.ModeSticky, 0o755} {
		dir, precious := shared(t)
		path := filepath.Join(dir, "pid")
		put(t, precious, ownPID(), os.Geteuid())
		if err := errors.Join(os.Link(precious, path), os.Link(precious, path+lastSuffix), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path)
		_, lastErr := New(path).ReadLast()
		if mode == 0o755 {
			if err := errors.Join(err, lastErr); err != nil {
				t.Error(err)
			}
			continue
		}
		mustRefuse(t, "pid file", err, path+": has 3 names", "remove it")
		mustRefuse(t, "outcome", lastErr, path+lastSuffix+": has 3 names", "remove it")
	}
}

// ReadLast accepts an outcome that belongs to root or to the uid of the process. It refuses an outcome of another uid.
func TestOutcomeOfAStrangerIsRefused(t *testing.T) {
	needRoot(t)
	dir, _ := shared(t)
	path := filepath.Join(dir, "pid")
	put(t, path, ownPID(), 0)
	put(t, path+lastSuffix, "an outcome", stranger)
	s, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for who, read := range map[string]func() ([]byte, error){"a reader": s.ReadLast, "the service": New(path).ReadLast} {
		b, err := read()
		mustRefuse(t, who, err, path+lastSuffix+": belongs to uid 65534, and the service to uid 0", "remove it")
		if b != nil {
			t.Errorf("%s reads %q", who, b)
		}
	}
	theirs := processOf(t, stranger)
	put(t, path, strconv.Itoa(theirs), stranger)
	if s, err = Read(path); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []int{stranger, 0} {
		put(t, path+lastSuffix, "an outcome", uid)
		if b, err := s.ReadLast(); err != nil || string(b) != "an outcome" {
			t.Errorf("of uid %d: %q, %v", uid, b, err)
		}
	}
	if err := os.Remove(path + lastSuffix); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadLast(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// The next generation may have another uid. ReadLast accepts its outcome in a directory where other users cannot replace the
// pid file.
func TestOutcomeOfAHeirWithAnotherUID(t *testing.T) {
	needRoot(t)
	for _, mode := range []os.FileMode{0o755, 0o777 | os.ModeSticky} {
		dir, _ := shared(t)
		path := filepath.Join(dir, "pid")
		put(t, path, ownPID(), 0)
		s, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		heir := processOf(t, stranger)
		put(t, path, strconv.Itoa(heir), stranger)
		put(t, path+lastSuffix, "an outcome", stranger)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if b, err := s.ReadLast(); (err == nil) != (mode == 0o755) {
			t.Errorf("%v: %q, %v", mode, b, err)
		}
	}
}

// If /proc does not show the process, Read accepts any owner in a directory where other users may not write.
func TestProcessWithoutAUID(t *testing.T) {
	dir, _ := shared(t)
	path := filepath.Join(dir, "pid")
	withMount(t, "/proc", func() error {
		for _, p := range []string{path, path + lastSuffix} {
			if err := errors.Join(os.WriteFile(p, []byte(ownPID()), 0o644), os.Chown(p, stranger, stranger)); err != nil {
				return err
			}
		}
		_, err := Read(path)
		mustRefuse(t, "where others may write", err, "belongs to uid 65534", "to a uid that is not known")
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		s, err := Read(path)
		if err == nil {
			_, err = s.ReadLast()
		}
		return err
	})
}
