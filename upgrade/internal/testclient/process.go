//go:build linux

package testclient

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Stopped reports whether all threads of a process are suspended by SIGSTOP. As long as a thread runs, it may handle another
// signal.
func Stopped(pid int) bool {
	all, some := threadsAre(pid, "T")
	return all && some
}

// Gone reports whether all threads of a process have ended. The process may still be a zombie.
func Gone(pid int) bool {
	all, _ := threadsAre(pid, "Z")
	return all
}

// threadsAre returns whether all threads of a process are in a state, and whether the process has threads.
func threadsAre(pid int, state string) (all, some bool) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(b), ") "+state+" ") {
			return false, true
		}
	}
	return true, len(threads) > 0
}

// parentOf returns the pid of the parent of a process, which may be a zombie; 0 if there is no such process.
func parentOf(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, parent := stateAndParent(b)
	return parent
}

// stateAndParent returns the state and the parent from the content of a file /proc/<pid>/stat.
func stateAndParent(stat []byte) (state string, parent int) {
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

// Zombies counts the children of a process that have ended and were not reaped.
func Zombies(t *testing.T, parent int) (n int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range dirs {
		b, _ := os.ReadFile(path) // fails if the process has gone
		if state, of := stateAndParent(b); state == "Z" && of == parent {
			n++
		}
	}
	return n
}

// Parent returns the pid of the parent of a process; 0 if there is no such process.
func Parent(pid int) (parent int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, _ = strconv.Atoi(strings.TrimSpace(s))
		}
	}
	return parent
}

// Children lists the children of a process, with zombies.
func Children(parent int) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if pid, _ := strconv.Atoi(filepath.Base(dir)); Parent(pid) == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Pending reports whether a signal was sent to a process and not handled yet.
func Pending(pid int, sig syscall.Signal) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(b), "\nShdPnd:\t")
	line, _, _ := strings.Cut(rest, "\n")
	set, _ := strconv.ParseUint(line, 16, 64)
	return set>>(sig-1)&1 == 1
}

// OpenSockets returns how many sockets a process has open.
func OpenSockets(pid int) (n int) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
