package flags_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// TestMain fails if a goroutine or a descriptor is left when all tests are over.
func TestMain(m *testing.M) {
	before := descriptors()
	code := m.Run()
	if code == 0 && flag.Lookup("test.fuzz").Value.String() == "" { // the fuzzer leaves goroutines of its own
		code = leaks(before)
	}
	os.Exit(code)
}

func leaks(before int) int {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if runtime.NumGoroutine() == 1 && descriptors() <= before {
			return 0
		}
		time.Sleep(time.Millisecond) // nothing tells when a goroutine that has done its work is gone
	}
	fmt.Fprintf(os.Stderr, "left: %d goroutines, %d descriptors (%d before)\n", runtime.NumGoroutine(), descriptors(), before)
	pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
	return 1
}

// descriptors counts open files without the runtime's own; 0 where /proc does not tell.
func descriptors() int {
	n := 0
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(to, "anon_inode") {
			n++
		}
	}
	return n
}
