package killswitch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A nobodys is a file that is read and written with the rights of a user who owns nothing.
type nobodys struct {
	storage
	t testing.TB
}

func (n nobodys) Update(change func([]byte, error) ([]byte, error)) (err error) {
	testutil.AsNobody(n.t, func() { err = n.storage.Update(change) })
	return err
}

// A place that may not be written to, or that is full, costs nothing but the file: the entry is in force and is sent, and the
// error is returned and shown. When the place is well again the next change writes both.
func TestEntriesWhereNothingCanBeWritten(t *testing.T) {
	for name, c := range map[string]struct {
		spoil, mend func(dir string) error
		want        error
	}{
		"no rights": {func(dir string) error { return os.Chmod(dir, 0o555) }, func(dir string) error { return os.Chmod(dir, 0o777) }, fs.ErrPermission},
		"full": {func(dir string) error {
			if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4k,nr_inodes=100,mode=777"); err != nil {
				t.Skip("NOT RUN: no tmpfs can be mounted, which needs root: ", err)
			}
			t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
			return os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 4096), 0o600)
		}, func(dir string) error { return os.Remove(filepath.Join(dir, "filler")) }, syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "overrides") // not t.TempDir, which nobody else may enter
			must(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			must(t, c.spoil(dir))
			path, other := filepath.Join(dir, "overrides"), openEntries(t, "", nil)
			e := openEntries(t, path, other.Merge)
			e.file = nobodys{e.file, t}
			err = e.Set("cart", Entry{Value: "off"})
			if st := e.Status(); !errors.Is(err, c.want) || st.FileError != err.Error() {
				t.Errorf("%v, %+v", err, st)
			}
			wantText(t, "here", e, "cart:off")
			wantText(t, "the other process", other, "cart:off")
			must(t, c.mend(dir), e.Set("pay", Entry{Value: "x"}))
			if st := e.Status(); st.FileError != "" {
				t.Errorf("%+v", st)
			}
			restart := new(Entries)
			testutil.AsNobody(t, func() { restart.Start(Options{Package: "flags", File: path, Logger: quiet}) })
			wantText(t, "restart", restart, "cart:off pay:x")
		})
	}
}
