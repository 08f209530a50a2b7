//go:build linux

package upgrade_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
)

// takesSockets reports whether the file has the mark, by the same check that an upgrade makes.
func takesSockets(t *testing.T, path string) bool {
	t.Helper()
	p, err := process.Preflight(path, nil, process.Policy{Other: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	return p.TakesSockets()
}

// The file of a build that can call New has the mark, however the build was linked: the build takes its sockets from the
// control socket. A build that cannot call New does not have the mark, even if it uses another part of the library: sockets in
// the control socket would be lost.
func TestMarkIsInBuildsThatTakeTheirSockets(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"", "-trimpath -ldflags=-s -ldflags=-w", "-race", "-buildmode=pie -trimpath"} {
		t.Run(flags, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && flags != "" {
				t.Skip("the standard library is compiled anew")
			}
			path := filepath.Join(t.TempDir(), "other")
			args := append(append([]string{"build", "-o", path}, strings.Fields(flags)...), "./testdata/other")
			if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !takesSockets(t, path) {
				t.Error("it has no mark")
			}
		})
	}
	if !takesSockets(t, testclient.Binary(t)) {
		t.Error("this test has no mark")
	}
	for name, path := range map[string]string{
		"tableflip": buildTableflip(t), "a part of the library": testutil.Build(t, "./testdata/asks", ""),
		"a shell": "/bin/sh", "without its mark": testclient.Unmarked(t),
	} {
		if takesSockets(t, path) {
			t.Errorf("%s has the mark", name)
		}
	}
}
