package testutil

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// lifetime is what ends when all tests of the package are over.
var lifetime struct {
	sync.Mutex
	cleanups []func()
}

// Lasting returns a TB for what all tests of a package share, such as a server: its cleanups, and the removal of its temporary
// directories, run when all tests are over. Main runs them. An error that it reports ends the test process with a panic,
// because it may belong to no test.
func Lasting(t testing.TB) testing.TB { return lasting{TB: t} }

// lasting has the methods of a TB that Start, Program and the servers call; all others belong to the test that called Lasting.
type lasting struct{ testing.TB }

func (lasting) Cleanup(fn func()) {
	lifetime.Lock()
	defer lifetime.Unlock()
	lifetime.cleanups = append(lifetime.cleanups, fn)
}

func (l lasting) TempDir() string {
	dir, err := os.MkdirTemp("", "midair-test-")
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (lasting) Helper()                           {}
func (lasting) Failed() bool                      { return false }
func (lasting) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (lasting) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (lasting) Error(args ...any)                 { panic(fmt.Sprint(args...)) }
func (lasting) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (lasting) Logf(string, ...any)               {}

// endLasting runs the cleanups, the last first.
func endLasting() {
	lifetime.Lock()
	cleanups := lifetime.cleanups
	lifetime.cleanups = nil
	lifetime.Unlock()
	slices.Reverse(cleanups)
	for _, fn := range cleanups {
		fn()
	}
}
