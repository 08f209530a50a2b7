package subprocess_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

var background = context.Background() // of programs

// inherited are the descriptors with which this process was started.
var inherited = testutil.OpenFDs()

// manyLines are more than a pipe takes.
const manyLines = 1 << 15

func init() {
	programs["talks"] = func() {
		go func() { // ends when all is written
			for !exists(os.Args[2]) {
				time.Sleep(time.Millisecond)
			}
			for range manyLines {
				fmt.Println("to os.Stdout, a line of some length, so that a pipe is full after a while")
				fmt.Fprintln(os.Stderr, "to os.Stderr, a line of some length, so that a pipe is full after a while")
			}
			_, _ = syscall.Write(1, []byte("to fd 1\n"))
			cmd := exec.Command("echo", "of a child")
			cmd.Stdout = os.Stdout
			_ = cmd.Run()
			writeMark(os.Args[2] + ".written")
		}()
		if err := subprocess.Serve(http.HandlerFunc(handle)); errors.Is(err, subprocess.ErrHostEnded) {
			fmt.Println("after the host")
			writeMark(os.Args[2] + ".ended")
		}
	}
	programs["env"] = func() {
		first := testutil.OpenFDs()
		serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			out, _ := exec.Command("env").Output()
			_ = json.NewEncoder(w).Encode(surroundings{os.Environ(), strings.Split(strings.TrimSpace(string(out)), "\n"), first})
		}))
	}
}

// surroundings are what a process has got.
type surroundings struct{ Env, ChildEnv, FDs []string }

func surroundingsOf(t *testing.T, o subprocess.Options) (s surroundings) {
	t.Helper()
	h := started(t, o)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if st := h.Status(); st.Failures != 0 {
		t.Errorf("the status is %+v", st)
	}
	return s
}

// The environment of the handler has nothing of service managers, of package upgrade, of go-plugin and of this package.
func TestEnvironmentHasNothingForeign(t *testing.T) {
	for _, name := range []string{"TABLEFLIP_HAS_PARENT_7DIU3", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "MIDAIR_X", "PLUGIN_X", "KEPT"} {
		t.Setenv(name, "1")
	}
	s := surroundingsOf(t, subprocess.Options{Cmd: program("env")})
	for _, env := range [][]string{s.Env, s.ChildEnv} {
		if !slices.Contains(env, "KEPT=1") {
			t.Errorf("the environment is %q", env)
		}
		for _, v := range env {
			for _, prefix := range []string{"TABLEFLIP_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "MIDAIR_", "PLUGIN_"} {
				if strings.HasPrefix(v, prefix) {
					t.Errorf("the environment has %s", v)
				}
			}
		}
	}
	for _, fd := range s.FDs {
		number, target, _ := strings.Cut(fd, " ")
		ofRuntime := strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/sys/fs/cgroup/")
		if (len(number) > 1 || number > "2") && !ofRuntime && !slices.Contains(inherited, fd) {
			t.Errorf("the process has the descriptor %s", fd)
		}
	}
}

// An environment of the user's command is used as it is, and its slice is not changed.
func TestEnvironmentOfTheCommandIsUsed(t *testing.T) {
	env := append(make([]string, 0, 100), "ONE=1", "LISTEN_FDS=2", "PATH="+os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0")
	s := surroundingsOf(t, subprocess.Options{Cmd: func() *exec.Cmd {
		cmd := program("env")()
		cmd.Env = env
		return cmd
	}})
	slices.Sort(s.Env)
	if want := slices.Sorted(slices.Values(env)); !slices.Equal(s.Env, want) {
		t.Errorf("the environment is %q, want %q", s.Env, want)
	}
	if all := env[:cap(env)]; all[len(env)] != "" {
		t.Errorf("%q was written behind the slice of the user", all[len(env)])
	}
}

// Serve without a host says so at once.
func TestServeWithoutAHost(t *testing.T) {
	if err := subprocess.Serve(http.NotFoundHandler()); !errors.Is(err, subprocess.ErrNoHost) {
		t.Error(err)
	}
}
