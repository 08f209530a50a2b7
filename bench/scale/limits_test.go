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

// allow raises the limit of this process for n idle connections. The processes that it starts inherit the limit. If the limit
// cannot be raised, the test does not run, and says so on standard error too.
func allow(t *testing.T, n int) {
	t.Helper()
	need := needed(n)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= need {
		return
	}
	t.Logf("%d connections need RLIMIT_NOFILE %d; the limit is %d, hard %d", n, need, limit.Cur, limit.Max)
	limit.Cur, limit.Max = max(limit.Cur, need), max(limit.Max, need)
	err := error(nil)
	if most := mostOpen(t); need > most {
		err = fmt.Errorf("/proc/sys/fs/nr_open is %d", most)
	} else {
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		text := fmt.Sprintf("NOT RUN: %d connections need RLIMIT_NOFILE %d, and this user cannot raise it: %v", n, need, err)
		fmt.Fprintln(os.Stderr, t.Name(), text)
		t.Skip(text)
	}
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
