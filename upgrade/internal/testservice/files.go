//go:build linux

package testservice

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// writeTime writes down when something has happened.
func writeTime(dir, name string) {
	now := strconv.FormatInt(time.Now().UnixNano(), 10)
	_ = os.WriteFile(filepath.Join(dir, name), []byte(now), 0o600) // the test misses the time
}

// waitFor waits until there is a file.
func waitFor(path string) {
	for !exists(path) {
		time.Sleep(5 * time.Millisecond) // this is the work
	}
}

// setNoFile limits the open files of this process; 0 is no limit.
func setNoFile(n uint64) error {
	if n == 0 {
		return nil
	}
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
}
