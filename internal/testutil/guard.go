package testutil

import (
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"sync"
)

// A guard is a process that waits for the end of the test process, and then kills the processes that the test process has
// left behind: a test binary that panics, or reaches its time limit, runs no cleanup. The guard reads from a pipe whose other
// end only the test process has open. The guard is started with the first family, and Main ends the guard.
const (
	guardEnv = "MIDAIR_TEST_GUARD" // set in the guard only: the runID of the test process
	runEnv   = "MIDAIR_TEST_RUN"   // set in every other started process: the runID of the test process
)

// runID marks all processes that this test process starts.
var runID = rand.Text()

// keeper is the guard of this test process.
var keeper struct {
	sync.Mutex
	wanted bool // Main was called: without Main, a guard would run the tests again
	cmd    *exec.Cmd
	pipe   *os.File
}

func isGuard() bool { return os.Getenv(guardEnv) != "" }

// guard is the work of the guard process.
func guard() int {
	_, _ = io.Copy(io.Discard, os.Stdin) // returns when the test process has ended in any way
	poll(settleTime, func() bool {
		pids := pidsWith(runEnv + "=" + os.Getenv(guardEnv))
		for _, pid := range pids {
			killPID(pid)
		}
		return len(pids) == 0
	})
	return 0
}

// wantGuard allows startGuard to start a guard.
func wantGuard() {
	keeper.Lock()
	defer keeper.Unlock()
	keeper.wanted = true
}

// startGuard starts the guard of this test process, unless there is a guard already, or wantGuard was not called.
func startGuard() error {
	keeper.Lock()
	defer keeper.Unlock()
	if keeper.cmd != nil || !keeper.wanted {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		w.Close()
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(environ(""), guardEnv+"="+runID)
	cmd.Stdin = r
	cmd.SysProcAttr = ownSession()
	if err := cmd.Start(); err != nil {
		w.Close()
		return err
	}
	keeper.cmd, keeper.pipe = cmd, w
	return nil
}

// stopGuard ends the guard, and waits for its end.
func stopGuard() {
	keeper.Lock()
	defer keeper.Unlock()
	if keeper.cmd == nil {
		return
	}
	keeper.pipe.Close()
	_ = keeper.cmd.Wait() // the exit status does not matter
	keeper.cmd = nil
}

// guardPID returns the pid of the guard, 0 if there is none.
func guardPID() int {
	keeper.Lock()
	defer keeper.Unlock()
	if keeper.cmd == nil {
		return 0
	}
	return keeper.cmd.Process.Pid
}
