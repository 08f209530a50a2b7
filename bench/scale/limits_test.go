//go:build linux

package scale

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// spare is how many descriptors a process needs beside the idle connections, at most: for the load, for the upgrade, and for
// the test's own files.
const spare = 300

// needed is how many descriptors each of the three processes needs for n idle connections: the test, the old process and the
// new process. The old process keeps a descriptor for each connection that it has passed to a candidate, so it needs as many
// as without an upgrade. In transit there are n descriptors at most: the kernel allows a user who is not root as many as
// RLIMIT_NOFILE.
func needed(n int) uint64 { return uint64(n + spare) }

// allow raises the limit of this process for n idle connections, and returns n. The processes that it starts inherit the limit.
// If the limit cannot be raised, the test does not run with n connections, and says so on standard error too. If the limit
// allows almost as many connections, allow returns that number instead.
func allow(t *testing.T, n int) int {
	t.Helper()
	need := needed(n)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= need {
		return n
	}
	err := raise(t, need, limit)
	if err == nil {
		return n
	}
	text := fmt.Sprintf("NOT RUN with %d connections: they need RLIMIT_NOFILE %d; it is %d, hard %d: %v",
		n, need, limit.Cur, limit.Max, err)
	most := int(limit.Cur) - spare
	if most < n*9/10 {
		fmt.Fprintln(os.Stderr, t.Name(), text)
		t.Skip(text)
	}
	fmt.Fprintf(os.Stderr, "%s %s; run with %d instead\n", t.Name(), text, most)
	return most
}

// raise raises the limit of this process.
func raise(t *testing.T, need uint64, limit syscall.Rlimit) error {
	t.Helper()
	if most := mostOpen(t); need > most {
		return fmt.Errorf("/proc/sys/fs/nr_open is %d", most)
	}
	limit.Cur, limit.Max = need, max(limit.Max, need)
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// mostOpen is the highest RLIMIT_NOFILE that the kernel allows.
func mostOpen(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
