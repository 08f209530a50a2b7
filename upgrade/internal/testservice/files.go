//go:build linux

package testservice

import (
	"os"
	"path/filepath"
	"strconv"
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
