package testutil

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
	"testing"
)

// builds holds the programs built by this test process. Main removes the programs.
var builds = struct {
	sync.Mutex
	dir  string
	made map[string]*built
}{made: map[string]*built{}}

type built struct {
	once sync.Once
	path string
	err  error
}

// Build builds a program by go build with the given -ldflags, and returns the path of the program. pkg is an import path, or
// a path relative to the directory of the test. Each test process builds the same program only once, with the race detector
// if the test has the race detector.
func Build(t testing.TB, pkg string, ldflags string) string {
	t.Helper()
	b, dir, err := buildSlot(pkg, ldflags)
	if err != nil {
		t.Fatalf("build %s: %v", pkg, err)
	}
	b.once.Do(func() { b.path, b.err = build(dir, pkg, ldflags) })
	if b.err != nil {
		t.Fatalf("build %s: %v", pkg, b.err)
	}
	return b.path
}

func buildSlot(pkg, ldflags string) (b *built, dir string, err error) {
	builds.Lock()
	defer builds.Unlock()
	if builds.dir == "" {
		if builds.dir, err = os.MkdirTemp("", "midair-test-"); err != nil {
			return nil, "", err
		}
	}
	key := pkg + "\x00" + ldflags
	if builds.made[key] == nil {
		builds.made[key] = &built{}
	}
	return builds.made[key], builds.dir, nil
}

func build(dir, pkg, ldflags string) (string, error) {
	dir, err := os.MkdirTemp(dir, "")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, path.Base(filepath.ToSlash(pkg))+exeSuffix)
	args := []string{"build", "-o", out}
	if raceEnabled {
		args = append(args, "-race")
	}
	if ldflags != "" {
		args = append(args, "-ldflags="+ldflags)
	}
	if msg, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, msg)
	}
	return out, nil
}

func removeBuilds() {
	builds.Lock()
	defer builds.Unlock()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir) // a temporary directory
	}
	builds.dir, builds.made = "", map[string]*built{}
}
