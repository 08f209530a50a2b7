package subprocess_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

// TestMain runs the tests, or the program of a process that they start, if the first argument is the name of one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if run, ok := programs[os.Args[1]]; ok {
			run()
			return
		}
	}
	testutil.Main(m, nil)
}

// programs are the programs that tests start, by their names.
var programs = map[string]func(){
	"serve": func() { serve(http.HandlerFunc(handle)) },
}

// serve is the main of a program of the canary.
func serve(h http.Handler) {
	if err := subprocess.Serve(h); err != nil && !errors.Is(err, subprocess.ErrHostEnded) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// handle answers as the query says.
func handle(w http.ResponseWriter, r *http.Request) {
	switch q := r.URL.Query(); {
	case q.Has("crash"):
		go panic("a goroutine of the canary")
		time.Sleep(time.Hour)
	case q.Has("exit"):
		os.Exit(7)
	case q.Has("stop"):
		stopSelf()
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "canary %d %s %s %s", os.Getpid(), r.Method, r.RemoteAddr, body)
}

// stopSelf returns when the process was stopped and goes on: the signal is for this thread, and not for any one, a moment later.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
}

// program returns a Cmd that starts a program of this file.
func program(name string, args ...string) func() *exec.Cmd {
	return func() *exec.Cmd {
		return exec.Command(os.Args[0], append([]string{name}, args...)...)
	}
}
