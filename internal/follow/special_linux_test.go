package follow_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/follow"
	"github.com/midair-go/midair/internal/testutil"
)

// mount mounts a file system for the test.
func mount(t *testing.T, source, target, kind string, flags uintptr, options string) {
	t.Helper()
	if err := syscall.Mount(source, target, kind, flags, options); err != nil {
		t.Skipf("NOT RUN: %s cannot be mounted, which needs root: %v", kind+source, err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
}

// A pipe is never opened, because an open would wait for a writer. This also holds if it replaces the file at the last moment.
func TestPipeIsNotOpened(t *testing.T) {
	f := follows(t, "one")
	remove(t, f.Path)
	must(t, syscall.Mkfifo(f.Path, 0o600))
	fails(t, f, irregular)
	if err := f.Read(); err == nil || !strings.Contains(err.Error(), irregular) {
		t.Errorf("a read without a look at the type: %v", err)
	}
	replace(t, f.Path, "one")
	sees(t, f, "one")
	for _, device := range []string{"/dev/null", "/dev/zero", "/proc/self/fd"} {
		fails(t, &follow.File{Path: device}, irregular)
	}
}

// A pipe, a directory and a file that is too large are refused without an open, which could have an effect.
func TestRefusedFilesAreNotOpened(t *testing.T) {
	watch, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	must(t, err)
	defer func() { _ = syscall.Close(watch) }()
	opened := func(path string) bool {
		id, err := syscall.InotifyAddWatch(watch, path, syscall.IN_OPEN)
		must(t, err)
		_, _, _ = (&follow.File{Path: path}).Look(true)
		n, _ := syscall.Read(watch, make([]byte, 4096))
		_, err = syscall.InotifyRmWatch(watch, uint32(id))
		must(t, err)
		_, _ = syscall.Read(watch, make([]byte, 4096)) // the end of the watch
		return n > 0
	}
	f := follows(t, "one")
	pipe, large := f.Path+".pipe", f.Path+".large"
	must(t, syscall.Mkfifo(pipe, 0o600))
	write(t, large, "")
	truncates(100<<20)(t, large)
	for path, want := range map[string]bool{f.Path: true, pipe: false, large: false, filepath.Dir(f.Path): false} {
		if got := opened(path); got != want {
			t.Errorf("%s: opened: %v", path, got)
		}
	}
}

// A file without permission is an error with advice.
func TestPermissionIsNamed(t *testing.T) {
	dir := tmpfs(t)
	must(t, os.Chmod(dir, 0o755))
	f := &follow.File{Path: filepath.Join(dir, "file")}
	write(t, f.Path, "one")
	must(t, os.Chmod(f.Path, 0))
	testutil.AsNobody(t, func() {
		_, _, err := f.Look(false)
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "change its permissions") {
			t.Errorf("%v", err)
		}
	})
}

// A file that never has the size of its content is being written for ever, as the files in /proc. The first such look says so by
// ErrWriting, and the other looks in the same words without ErrWriting. After a good look ErrWriting comes first again.
func TestWritingIsAnErrorOfItsOwnOnce(t *testing.T) {
	f := follows(t, "one")
	for range 2 {
		must(t, os.Remove(f.Path), os.Symlink("/proc/version", f.Path))
		for i := range 3 {
			err := fails(t, f, "somebody is writing it")
			if errors.Is(err, follow.ErrWriting) != (i == 0) {
				t.Errorf("look %d: %#v", i, err)
			}
		}
		replace(t, f.Path, "one")
		sees(t, f, "one")
	}
	must(t, os.Remove(f.Path), os.Symlink("/proc/version", f.Path))
	fails(t, f, "somebody is writing it")
	remove(t, f.Path)
	fails(t, f, missing)
	must(t, os.Symlink("/proc/version", f.Path))
	if err := fails(t, f, "somebody is writing it"); !errors.Is(err, follow.ErrWriting) {
		t.Errorf("after another error: %#v", err)
	}
}

// mapped maps a file into memory, and makes its pages writable. Later writes to these pages change no field of the stamp.
func mapped(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	info, err := file.Stat()
	must(t, err)
	b, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() { _ = syscall.Munmap(b) })
	for i, old := range b {
		b[i] = old + 1
		b[i] = old
	}
	return b
}

// tmpfs returns a directory in memory.
func tmpfs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "follow")
	if err != nil {
		t.Skip("NOT RUN: no tmpfs: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A write through mapped memory keeps every field of the stamp. It is found within 10 s, by a look that reads always at once.
func TestWriteThroughMappedMemoryIsFound(t *testing.T) {
	path := filepath.Join(tmpfs(t), "file")
	settled(t, "unused", func(t *testing.T, _ *follow.File) {
		f := &follow.File{Path: path}
		write(t, path, "one")
		memory := mapped(t, path)
		sees(t, f, "one")
		settle(t, f)
		copy(memory, "two")
		if !f.SameStamp() {
			t.Fatal("the write has changed the stamp")
		}
		for range 9 {
			time.Sleep(time.Second)
			sees(t, f, "")
		}
		time.Sleep(time.Second)
		sees(t, f, "two")
		settle(t, f)
		copy(memory, "thr")
		if content, fresh, err := f.Look(true); string(content) != "thr" || !fresh || err != nil || !f.SameStamp() {
			t.Errorf("always: Look returns %q, %v, %v", content, fresh, err)
		}
	})
}

// Each change is seen on a tmpfs too.
func TestEachChangeIsSeenOnATmpfs(t *testing.T) {
	for name, steps := range changes {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tmpfs(t), "file")
			settled(t, "unused", func(t *testing.T, _ *follow.File) {
				f := &follow.File{Path: path}
				write(t, path, "one")
				date(t, path)
				sees(t, f, "one")
				settle(t, f)
				for _, s := range steps {
					s.take(t, f)
				}
			})
		})
	}
}

// A bind mount over the file, over its directory, and the end of the mount are changes. The file below has the same size and time.
func TestBindMountIsSeen(t *testing.T) {
	settled(t, "one", func(t *testing.T, f *follow.File) {
		dir := filepath.Dir(f.Path)
		other := filepath.Join(t.TempDir(), filepath.Base(f.Path))
		write(t, other, "two")
		date(t, other)
		date(t, f.Path)
		sees(t, f, "")
		settle(t, f)
		for target, source := range map[string]string{f.Path: other, dir: filepath.Dir(other)} {
			mount(t, source, target, "", syscall.MS_BIND, "")
			sees(t, f, "two")
			settle(t, f)
			must(t, syscall.Unmount(target, 0))
			sees(t, f, "one")
			settle(t, f)
		}
	})
}

// In an overlay, a file moves to the upper directory at its first change. A changed file there is seen.
func TestOverlayIsSeen(t *testing.T) {
	dir := tmpfs(t)
	lower, upper, work, merged := filepath.Join(dir, "l"), filepath.Join(dir, "u"), filepath.Join(dir, "w"), filepath.Join(dir, "m")
	for _, name := range []string{lower, upper, work, merged} {
		mkdir(t, name)
	}
	write(t, filepath.Join(lower, "file"), "one")
	date(t, filepath.Join(lower, "file"))
	mount(t, "overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
	settled(t, "unused", func(t *testing.T, _ *follow.File) {
		f := &follow.File{Path: filepath.Join(merged, "file")}
		sees(t, f, "one")
		settle(t, f)
		must(t, os.Chmod(f.Path, 0o644)) // moves the file up
		sees(t, f, "")
		settle(t, f)
		all(writes("two"), ages)(t, f.Path)
		sees(t, f, "two")
		settle(t, f)
		all(replaces("thr"), ages)(t, f.Path)
		sees(t, f, "thr")
	})
}

// Hard links to the file change nothing. A rename of a link to another file, and a write through another name, are changes.
func TestHardLinksAreSeen(t *testing.T) {
	settled(t, "one", func(t *testing.T, f *follow.File) {
		date(t, f.Path)
		sees(t, f, "")
		first, second := f.Path+".1", f.Path+".2"
		write(t, second, "two")
		date(t, second)
		for _, s := range []step{
			{func(t *testing.T, path string) { must(t, os.Link(path, first)) }, "", ""},
			{func(t *testing.T, path string) { must(t, os.Rename(second, path)) }, "two", ""},
			{func(t *testing.T, path string) { must(t, os.Rename(first, path)) }, "one", ""},
			{func(t *testing.T, path string) { must(t, os.Link(path, first)); write(t, first, "thr"); date(t, first) }, "thr", ""},
			{func(t *testing.T, path string) { must(t, os.Remove(path), os.Link(first, path)) }, "", ""},
		} {
			settle(t, f)
			s.take(t, f)
		}
	})
}

// A read leaves no descriptor open, whether it was good or not.
func TestLooksLeaveNoDescriptors(t *testing.T) {
	f := follows(t, "one")
	before := len(testutil.OpenFDs())
	for _, content := range []string{"one", "two", strings.Repeat("x", 1<<20+1)} {
		write(t, f.Path, content)
		for range 20 {
			_, _, _ = f.Look(true)
		}
	}
	must(t, os.Remove(f.Path), os.Symlink("/proc/version", f.Path))
	for range 20 {
		_, _, _ = f.Look(false)
	}
	if after := len(testutil.OpenFDs()); after != before {
		t.Errorf("%d descriptors are open, %d were open before", after, before)
	}
}
