//go:build linux

package process

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A file that may be executed and not read is started as it is, and cannot be verified.
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
	})
}
