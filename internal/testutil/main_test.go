package testutil_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() int{
		"exit":   exitRole,
		"idle":   idleRole,
		"tree":   treeRole,
		"fault":  faultRole,
		"server": serverRole,
		"counts": countsRole,
	})
}

// exitRole prints its arguments and directory and exits with 7.
func exitRole() int {
	dir, err := os.Getwd()
	fmt.Println("args", os.Args[1:], "dir", dir, err, "extra", os.Getenv("EXTRA"))
	fmt.Fprintln(os.Stderr, "to stderr")
	return 7
}

// idleRole waits for TERM.
func idleRole() int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("ready")
	<-c
	return 0
}

// treeRole starts a copy of itself for each level of its argument and then waits to be killed, or exits at once where
// the argument is "leave".
func treeRole() int {
	for i, arg := range os.Args[1:] {
		if arg != "child" {
			continue
		}
		self, err := os.Executable()
		if err != nil {
			return 2
		}
		cmd := exec.Command(self, os.Args[i+2:]...)
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return 2
		}
		break
	}
	fmt.Println("up", os.Getpid(), os.Args[1:])
	if len(os.Args) > 1 && os.Args[1] == "leave" {
		return 0
	}
	return idleRole()
}

// faultRole passes the points named by its arguments.
func faultRole() int {
	testutil.SetGeneration(2)
	for _, point := range os.Args[1:] {
		testutil.Fault(point)
		fmt.Println("passed", point)
	}
	return 0
}

// serverRole serves on the unix socket of its first argument with the journal of its second.
func serverRole() int {
	j, err := testutil.OpenJournal(os.Args[2])
	if err != nil {
		return 2
	}
	ln, err := net.Listen("unix", os.Args[1])
	if err != nil {
		return 2
	}
	fmt.Println("serving")
	work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pid", fmt.Sprint(os.Getpid()))
		fmt.Fprintln(w, "done")
	})
	fmt.Fprintln(os.Stderr, http.Serve(ln, j.Handler(work)))
	return 1
}

// countsRole prints its counts and descriptors.
func countsRole() int {
	fmt.Println(testutil.Counts())
	for _, fd := range testutil.OpenFDs() {
		fmt.Println("fd", fd)
	}
	return 0
}

const patience = 30 * time.Second

// recorder is a test that fails without failing the one that runs.
type recorder struct {
	testing.TB
	failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Errorf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }

// failure returns the message that f fails with, empty if it does not.
func failure(t *testing.T, f func(t testing.TB)) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.failed
}
