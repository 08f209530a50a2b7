package testutil

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// roleEnv is the variable with the role of a process. Descendants inherit the variable.
const roleEnv = "MIDAIR_TEST_ROLE"

// settleTime is how long goroutines, descriptors and processes that are left after the tests may take to end before they
// count as leaks. The variable settleEnv sets another time.
const (
	settleTime = 5 * time.Second
	settleEnv  = "MIDAIR_TEST_SETTLE"
)

// started holds the roles that were started, so that Main can report the roles that no test uses.
var started = struct {
	sync.Mutex
	roles map[string]bool
}{roles: map[string]bool{}}

// Main runs the tests of a package, or a role of the package, and never returns. In a process that was started by Start, Main
// runs the function of the role, and exits with the result. Otherwise Main runs the tests, and exits with 1 if a test failed,
// if goroutines, descriptors or children are left, or if all tests were run and none started one of the roles. With
// MIDAIR_TEST_COVERED=short in the environment Main leaves out the tests that a run with -race and -short has covered.
func Main(m *testing.M, roles map[string]func() int) {
	if isGuard() {
		os.Exit(guard())
	}
	if name := os.Getenv(roleEnv); name != "" {
		os.Exit(play(roles, name))
	}
	flag.Parse()
	if err := leaveOutCovered("."); err != nil {
		fmt.Fprintln(os.Stderr, "testutil:", err)
		os.Exit(1)
	}
	wantGuard()
	before := firstCensus()
	code := m.Run()
	endLasting()
	stopGuard()
	removeBuilds()
	left := leaked(before, settle())
	if code == 0 && !filtered() {
		left = append(left, neverStarted(roles)...)
	}
	for _, l := range left {
		fmt.Fprintln(os.Stderr, l)
	}
	if len(left) > 0 && code == 0 {
		code = 1
	}
	os.Exit(code)
}

func settle() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(settleEnv)); err == nil {
		return d
	}
	return settleTime
}

func play(roles map[string]func() int, name string) int {
	role, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "testutil: no role %q\n", name)
		return 2
	}
	return role()
}

// neverStarted lists the roles that no test has started.
func neverStarted(roles map[string]func() int) []string {
	started.Lock()
	defer started.Unlock()
	var names []string
	for name := range roles {
		if !started.roles[name] {
			names = append(names, fmt.Sprintf("testutil: no test started the role %q", name))
		}
	}
	slices.Sort(names)
	return names
}
