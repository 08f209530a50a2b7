package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// firstVictim is the greatest value of oom_score_adj. A process with this value is killed first: with a smaller value the
// kernel may kill a bigger process first.
const firstVictim = "1000"

// oom is what this process has done with its oom_score_adj.
var oom struct {
	mu      sync.Mutex
	raised  bool
	fd      int    // the descriptor of the file oom_score_adj; open while raised is true
	was     string // the value at the start of this process, for RestoreOOM
	problem error  // why init could not raise the value
	until   int64  // when the old value was written back, in the unit of ticks; 0: never
}

func init() {
	if HasParent() {
		oom.problem = raiseOOM()
	}
}

// raiseOOM sets oom_score_adj of this process to firstVictim. It prints nothing, because it runs before main.
func raiseOOM() error {
	const path = "/proc/self/oom_score_adj"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	b := make([]byte, 16)
	n, err := unix.Pread(fd, b, 0)
	if oom.was = strings.TrimSpace(string(b[:max(n, 0)])); err == nil && oom.was != firstVictim {
		err = withoutResource(func() error {
			err := writeOOM(fd, firstVictim)
			oom.raised, oom.fd = err == nil, fd
			return err
		})
	}
	if !oom.raised {
		unix.Close(fd) // the value was not changed, so RestoreOOM has nothing to write back
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func oomProblem() error {
	oom.mu.Lock()
	defer oom.mu.Unlock()
	return oom.problem
}

func restoreOOM() (bool, error) {
	oom.mu.Lock()
	defer oom.mu.Unlock()
	if !oom.raised {
		return false, nil
	}
	oom.raised = false
	write := func() error { return writeOOM(oom.fd, oom.was) }
	err := withoutResource(write)
	if err != nil {
		err = write()
	}
	unix.Close(oom.fd)
	if err != nil {
		return false, fmt.Errorf("oom_score_adj stays %s and cannot be %s again: %w", firstVictim, oom.was, err)
	}
	oom.until = ticks()
	return true, nil
}

func writeOOM(fd int, value string) error {
	_, err := unix.Pwrite(fd, []byte(value), 0)
	return os.NewSyscallError("write", err)
}

// withoutResource calls fn without the effective capability CAP_SYS_RESOURCE. A write of oom_score_adj with this capability
// also sets the minimum for later writes without the capability. A service that changes its user gives up its capabilities,
// and could then never write the old value back. Only the thread in which fn runs is without the capability.
func withoutResource(fn func() error) error {
	// While fn runs, the runtime must start no thread from this thread: the new thread would inherit the reduced capabilities.
	// The runtime starts no thread from a locked thread.
	runtime.LockOSThread()
	whole := true // becomes false if the thread cannot get the capability again
	defer func() {
		if whole { // if whole is false, the thread stays locked, runs no other goroutine, and ends with this goroutine
			runtime.UnlockOSThread()
		}
	}()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0: this thread
	var had [2]unix.CapUserData
	if err := unix.Capget(&head, &had[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	const resource = 1 << unix.CAP_SYS_RESOURCE
	if had[0].Effective&resource == 0 {
		return fn()
	}
	less := had
	less[0].Effective &^= resource
	if err := unix.Capset(&head, &less[0]); err != nil {
		return fmt.Errorf("give CAP_SYS_RESOURCE up for a moment: %w", os.NewSyscallError("capset", err))
	}
	err := fn()
	if back := unix.Capset(&head, &had[0]); back != nil {
		whole = false
		err = errors.Join(err, fmt.Errorf("take CAP_SYS_RESOURCE back: %w", os.NewSyscallError("capset", back)))
	}
	return err
}

// ticks returns the time since the boot of the machine, in units of 0.01 s. On every platform /proc gives the start of a
// process in this unit.
func ticks() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return t.Nano() / 1e7
}

func killedFirst() (pids []int) {
	oom.mu.Lock()
	until := oom.until
	oom.mu.Unlock()
	dir, err := os.Open("/proc")
	if err != nil || until == 0 {
		dir.Close() // does nothing if dir is nil
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() || !startedHere(pid, until) {
			continue
		}
		if b, _ := os.ReadFile("/proc/" + name + "/oom_score_adj"); strings.TrimSpace(string(b)) == firstVictim {
			pids = append(pids, pid)
		}
	}
	return pids
}

// startedHere reports whether a process lives, is a child of this process or in its process group, and was started before the
// given time, in the unit of ticks.
func startedHere(pid int, before int64) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false // the process has ended
	}
	const state, parent, group, started = 0, 1, 2, 19 // indexes of the fields after the last parenthesis, where the name ends
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) <= started || f[state] == "Z" {
		return false
	}
	own := strconv.Itoa(os.Getpid())
	at, err := strconv.ParseInt(f[started], 10, 64)
	return err == nil && (f[parent] == own || f[group] == own) && at < before
}
