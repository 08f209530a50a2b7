package service_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

// programs are the programs that tests start, by their names.
var programs = map[string]func(){
	"cart": func() { serve(newCart(os.Args[2])) },
	"host": host,
	"shop": func() { serve(shop("canary", os.Args[2])) },
}

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

// serve is the main of a program of the canary.
func serve(h http.Handler) {
	if err := subprocess.Serve(h); err != nil && !errors.Is(err, subprocess.ErrHostEnded) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// command returns a Cmd that starts a program of the test binary, which writes its log to a file that a failed test shows.
func command(t *testing.T, args ...string) func() *exec.Cmd {
	t.Helper()
	log, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the log of the processes:\n%.4000s", b)
		}
		log.Close()
	})
	return func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
		cmd.Stderr = log
		return cmd
	}
}

// shortDir returns a directory with a path that is short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
