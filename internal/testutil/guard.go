package testutil

import (
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"sync"
)

// A guard is a process that does nothing until the test process is gone, and then kills what it left behind: a test
// binary that panics or runs into its time limit runs no cleanup. It holds the reading end of a pipe whose writing end
// only the test process has. It is started with the first family; Main ends it.
const (
	guardEnv = "MIDAIR_TEST_GUARD" // set in the guard: the run it guards
	runEnv   = "MIDAIR_TEST_RUN"   // set in every started process
)

// runID marks all processes of this test process.
var runID = rand.Text()

// keeper is the guard of this test process.
var keeper struct {
	sync.Mutex
	wanted bool // set by Main: without it a second start of the binary would run the tests again
	cmd    *exec.Cmd
	pipe   *os.File
}

func isGuard() bool { return os.Getenv(guardEnv) != "" }

// guard is the work of the guard process.
func guard() int {
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test process, whatever its end is
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

// startGuard starts the guard of this test process, unless there is a guard or Main cannot play the role.
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

// stopGuard ends the guard and waits for it.
func stopGuard() {
	keeper.Lock()
	defer keeper.Unlock()
	if keeper.cmd == nil {
		return
	}
	keeper.pipe.Close()
	_ = keeper.cmd.Wait() // it has nothing to say
	keeper.cmd = nil
}

// guardPID is the pid of the guard, 0 if there is none.
func guardPID() int {
	keeper.Lock()
	defer keeper.Unlock()
	if keeper.cmd == nil {
		return 0
	}
	return keeper.cmd.Process.Pid
}
