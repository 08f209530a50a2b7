//go:build linux

package process

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A file that this process may execute but not read is accepted if wrappers are allowed. Verify cannot check it, so with Verify
// it is refused.
func TestExecuteOnlyFile(t *testing.T) {
	dir, err := os.MkdirTemp("", "exec")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "program")
	if err := errors.Join(os.WriteFile(path, []byte("#!/bin/true\n"), 0o111), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	testutil.AsNobody(t, func() {
		p, err := Preflight(path, nil, Policy{})
		if err != nil || p.path != path || p.exe != nil {
			t.Errorf("%+v, %v", p, err)
		}
		verify := func(string) error { t.Error("there is nothing to verify"); return nil }
		if p, err := Preflight(path, nil, Policy{Verify: verify}); !errors.Is(err, fs.ErrPermission) || p.exe != nil {
			t.Errorf("with Verify: %+v, %v", p, err)
		}
		if p, err := Preflight(path, nil, Policy{Wrapper: errors.New("no wrappers")}); err == nil || !strings.Contains(err.Error(), path+": cannot be read, so nobody knows what it is, and it no wrappers") {
			t.Errorf("without wrappers: %+v, %v", p, err)
		}
	})
}

// A file that this process must not read is accepted if it is the executable of this process: then it takes its sockets from
// the control socket.
func TestUnreadableFileThatRunsIsKnown(t *testing.T) {
	const self = "/proc/self/exe"
	path, err := os.Executable()
	if err == nil {
		err = os.Chmod(path, 0o111)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(path, 0o755)
	testutil.AsNobody(t, func() {
		if f, err := os.Open(self); err == nil {
			f.Close()
			t.Fatal("it can be read")
		}
		if p, err := Preflight(self, nil, Policy{Wrapper: errors.New("no wrappers")}); err != nil || !p.TakesSockets() {
			t.Errorf("%+v, %v", p, err)
		}
	})
}
