//go:build linux

// Package migrate shows what it takes to make an existing service upgradable: before and after, and the tests that the
// figures of docs/existing-service.md come from.
package migrate_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// An existing net/http program becomes upgradable by changing at most 15 lines, and docs/existing-service.md
// shows them.
func TestMigrationIsShort(t *testing.T) {
	before, after := lines(t, "before/main.go"), lines(t, "after/main.go")
	removed, added := without(before, after), without(after, before)
	if n := len(removed) + len(added); n > 15 || n == 0 {
		t.Errorf("%d lines differ:\n-%s\n+%s", n, strings.Join(removed, "\n-"), strings.Join(added, "\n+"))
	}
	page := lines(t, "../../docs/existing-service.md")
	for _, l := range removed {
		if !slices.Contains(page, "-"+l) {
			t.Errorf("the page lacks the line -%s", l)
		}
	}
	for _, l := range added {
		if !slices.Contains(page, strings.TrimRight("+"+l, " ")) {
			t.Errorf("the page lacks the line +%s", l)
		}
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// without returns the lines of a that are left when each line of b has taken away an equal one.
func without(a, b []string) []string {
	left := slices.Clone(a)
	for _, l := range b {
		if i := slices.Index(left, l); i >= 0 {
			left = slices.Delete(left, i, i+1)
		}
	}
	return left
}

// The program that was changed upgrades under load without losing a request.
func TestMigratedProgramUpgrades(t *testing.T) {
	dir := t.TempDir()
	addr := testutil.FreeAddr(t)
	p := testutil.StartCommand(t, testutil.Cfg{Dir: dir}, testutil.Build(t, "./after", ""), "-addr", addr)
	pid := func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "wordcount.pid"))
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	testutil.Until(t, 20*time.Second, "it serves", func() bool { return pid() == p.PID() })
	l := testutil.StartLoad(t, testutil.LoadOptions{Addr: addr, KeepAlive: 8, New: 2, Path: "/count", Body: 100})
	for range 5 {
		old := pid()
		if err := syscall.Kill(old, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testutil.Until(t, 20*time.Second, fmt.Sprintf("another process than %d serves", old), func() bool {
			return pid() != old && len(p.Family()) == 1
		})
	}
	if r := l.Stop(); len(r.Failed) > 0 || r.Answered == 0 {
		t.Fatalf("requests were lost\n%s", r)
	}
}
