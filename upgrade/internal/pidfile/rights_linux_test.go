package pidfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// If this process may not write to the directory any more, Stage returns an error, although a file is staged already. When the
// process may write again, Publish works.
func TestStageLooksAtTheRightsAgain(t *testing.T) {
	dir, err := os.MkdirTemp("", "pid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := New(filepath.Join(dir, "pid"))
	testutil.AsNobody(t, func() {
		if err := p.Stage(); !errors.Is(err, os.ErrPermission) && os.Getuid() == 0 {
			t.Errorf("a directory of somebody else: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		testutil.AsNobody(t, func() {
			if err := p.Stage(); err != nil {
				t.Error(err)
			}
		})
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	testutil.AsNobody(t, func() {
		if err := p.Stage(); err == nil {
			t.Error("it is staged, and cannot be published")
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	testutil.AsNobody(t, func() {
		if err := p.Publish(); err != nil || !exists(p.path) {
			t.Errorf("%v, there: %v", err, exists(p.path))
		}
	})
}
