package compat

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// deadline is how long a browser may take for all pages, on a busy machine.
const deadline = 3 * time.Minute

// startBrowser starts a Chromium without windows, which loads a page. At the end of the test all its processes are gone. The
// returned channel is closed if the browser ends before.
func startBrowser(t *testing.T, url string) (ended <-chan struct{}) {
	t.Helper()
	exe := testutil.Program(t, "chromium", "chromium")
	dir := t.TempDir()
	proc := testutil.StartCommand(t, testutil.Cfg{Dir: dir, Env: []string{"HOME=" + dir}}, exe,
		"--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+dir, "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--disable-component-update", "--disable-breakpad", "--disable-dev-shm-usage",
		"--remote-debugging-port=0", // without it the browser ends when the first page is loaded
		url)
	t.Cleanup(func() { // children of the browser overwrite their environment, by which testutil would find them
		testutil.Until(t, deadline, "the end of the browser's processes", func() bool {
			none := errors.Is(syscall.Kill(-proc.PID(), syscall.SIGKILL), syscall.ESRCH)
			return endCrashHandlers(t) && none
		})
	})
	return proc.Exited()
}

// endCrashHandlers ends the processes of the browser that have left its process group, and reports whether there was none. They are
// children of this process now, which is the parent of orphans.
func endCrashHandlers(t *testing.T) (none bool) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	none = true
	for _, path := range stats {
		var pid, parent int
		var name, state string
		stat, _ := os.ReadFile(path) // fails if the process has ended
		_, err := fmt.Sscan(string(stat), &pid, &name, &state, &parent)
		if err != nil || name != "(chrome_crashpad)" || parent != os.Getpid() {
			continue
		}
		none = false
		_ = syscall.Kill(pid, syscall.SIGKILL) // fails if the process has ended
		_, _ = syscall.Wait4(pid, nil, 0, nil) // fails if testutil was first
	}
	return none
}
