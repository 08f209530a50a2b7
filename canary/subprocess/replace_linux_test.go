package subprocess_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

func init() {
	programs["slow"] = func() {
		serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := r.URL.Query().Get("until")
			if name != "" {
				writeMark(name + ".begun")
			}
			for name != "" && r.Context().Err() == nil {
				if _, err := os.Stat(name); err == nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			fmt.Fprintf(w, "canary %d", os.Getpid())
		}))
		if len(os.Args) > 2 {
			writeMark(os.Args[2]) // main has gone on after Serve
		}
	}
}

func writeMark(name string) { _ = os.WriteFile(name, nil, 0o600) }

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// contextThatEndsWhen returns a context that ends when a condition is true.
func contextThatEndsWhen(t testing.TB, cond func() bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends with the condition, or after some time
		testutil.Within(patience, func() bool { return ctx.Err() != nil || cond() })
		cancel()
	}()
	return ctx, cancel
}

// No request fails while processes are replaced under load, and each process ends after its last request.
func TestReplaceUnderLoadFailsNoRequest(t *testing.T) {
	dir, log := filepath.Join(shortDir(t), "s"), new(logbook)
	h := started(t, subprocess.Options{Dir: dir, Cmd: program("serve"), Logger: log.logger()})
	srv := httptest.NewServer(h) // without a router: nothing is rescued
	defer srv.Close()
	c := newCrowd(t, srv.URL, 8)
	n := times(100)
	for range n {
		if err := h.Replace(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.more(t, 20)
	}
	c.allAnswered(t)
	testutil.Until(t, patience, "the end of the earlier processes", func() bool { return len(processesOf(dir)) == 1 })
	testutil.Within(patience, func() bool { return strings.Count(log.String(), "was stopped") == n })
	if ended := strings.Count(log.String(), `how="exit status 0"`); ended != n {
		t.Errorf("%d of %d processes have ended by themselves:\n%s", ended, n, log)
	}
	if st := h.Status(); st.Starts != uint64(n+1) || st.Failures != 0 || st.Reason != "" || st.PID != processesOf(dir)[0] {
		t.Errorf("the status is %+v, and the processes %v", st, processesOf(dir))
	}
}

// A Replace that fails leaves the first process where it is.
func TestReplaceThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortDir(t), "s")
	var cmd atomic.Pointer[func() *exec.Cmd]
	use := func(c func() *exec.Cmd) { cmd.Store(&c) }
	use(program("serve"))
	var warm atomic.Pointer[error]
	h := started(t, subprocess.Options{
		Dir: dir, Cmd: func() *exec.Cmd { return (*cmd.Load())() }, StartTimeout: 5 * time.Second,
		Warm: func(context.Context, http.Handler) error {
			if err := warm.Load(); err != nil {
				return *err
			}
			return nil
		},
	})
	pid := h.Status().PID
	fails := func(ctx context.Context, want string) {
		t.Helper()
		if err := h.Replace(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if !strings.HasPrefix(w.Body.String(), fmt.Sprint("canary ", pid, " ")) || len(processesOf(dir)) != 1 {
			t.Errorf("after %q: the answer is %q, and the processes %v", want, w.Body, processesOf(dir))
		}
		if st := h.Status(); st.PID != pid || st.Starts != 1 {
			t.Errorf("after %q: the status is %+v", want, st)
		}
	}
	use(program("exits"))
	fails(t.Context(), "has ended before it served: exit status 7")
	use(program("serve"))
	cold := errors.New("it is cold")
	warm.Store(&cold)
	fails(t.Context(), "Warm: it is cold")
	use(program("sleeps"))
	ctx, cancel := contextThatEndsWhen(t, func() bool { return len(processesOf(dir)) > 1 })
	defer cancel()
	fails(ctx, "context canceled")
	fails(ctx, "context canceled")
}

// Replace may be called by several goroutines: one process is left.
func TestReplaceTakesTurns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortDir(t), "s")
	h := started(t, subprocess.Options{Dir: dir, Cmd: program("serve")})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := h.Replace(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	testutil.Until(t, patience, "the end of the earlier processes", func() bool { return len(processesOf(dir)) == 1 })
	if st := h.Status(); st.Starts != 5 || st.PID != processesOf(dir)[0] {
		t.Errorf("the status is %+v", st)
	}
}

// Close waits for the running requests, and then for the main of the program.
func TestCloseWaitsForRequests(t *testing.T) {
	t.Parallel()
	mark, after := filepath.Join(t.TempDir(), "mark"), filepath.Join(t.TempDir(), "after")
	h := started(t, subprocess.Options{Cmd: program("slow", after)})
	pid := h.Status().PID
	s := httptest.NewServer(h)
	defer s.Close()
	get(s.URL)
	answer, closed := make(chan string, 1), make(chan error, 2)
	go func() { answer <- get(s.URL + "?until=" + mark) }() // ends with the mark
	testutil.Until(t, patience, "a request", func() bool { return exists(mark + ".begun") })
	for range 2 {
		go func() { closed <- h.Close() }() // ends with the request
	}
	testutil.Until(t, patience, "Close", func() bool { return strings.HasPrefix(get(s.URL), "502 ") })
	if st := h.Status(); st.PID != 0 || st.Since.IsZero() {
		t.Errorf("the status during Close is %+v", st)
	}
	select {
	case <-closed:
		t.Error("Close has not waited")
	default:
	}
	writeMark(mark)
	if got, want := <-answer, fmt.Sprint("200 canary ", pid); got != want {
		t.Errorf("the answer is %q, want %q", got, want)
	}
	for range 2 {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
	if !exists(after) {
		t.Error("the process was killed before its main had ended")
	}
	if err := h.Replace(t.Context()); !errors.Is(err, subprocess.ErrClosed) {
		t.Errorf("Replace after Close: %v", err)
	}
}

// After Drain, Close kills the process whatever it does.
func TestCloseKillsAfterDrain(t *testing.T) {
	t.Parallel()
	mark, log := filepath.Join(t.TempDir(), "mark"), new(logbook)
	h := started(t, subprocess.Options{Cmd: program("slow"), Drain: 50 * time.Millisecond, Logger: log.logger()})
	s := newService(t, h)
	answer := make(chan string, 1)
	go func() { answer <- get(s.URL + "?until=" + mark) }() // ends with the process
	testutil.Until(t, patience, "a request", func() bool { return exists(mark + ".begun") })
	h.Close()
	if got := <-answer; got != "200 stable " {
		t.Errorf("the answer is %q", got)
	}
	testutil.Until(t, patience, "the log", func() bool { return strings.Contains(log.String(), `was stopped"`) })
	if got := log.String(); !strings.Contains(got, `how="signal: killed" unanswered=1`) {
		t.Error(got)
	}
}

// Close ends a start, a restart and a Replace that are going on.
func TestCloseEndsStarts(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"replace", "restart", "pause"} {
		t.Run(how, func(t *testing.T) {
			dir := filepath.Join(shortDir(t), "s")
			var asleep atomic.Bool
			o := subprocess.Options{Dir: dir, StartTimeout: time.Hour, Pause: time.Hour, Cmd: func() *exec.Cmd {
				switch {
				case !asleep.Load():
					return program("serve")()
				case how == "pause":
					return program("exits")()
				}
				return program("sleeps")()
			}}
			h := started(t, o)
			pid := h.Status().PID
			asleep.Store(true)
			replaced := make(chan error, 1)
			if how == "replace" {
				go func() { replaced <- h.Replace(context.Background()) }() // ends with Close
			} else {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			testutil.Until(t, patience, "a second process", func() bool {
				for _, p := range processesOf(dir) {
					if p != pid {
						return true
					}
				}
				return how == "pause" && h.Status().Failures > 4
			})
			failures := h.Status().Failures
			h.Close()
			if how == "replace" {
				if err := <-replaced; !errors.Is(err, subprocess.ErrClosed) {
					t.Errorf("Replace: %v", err)
				}
			}
			if got := h.Status().Failures; got > failures && how != "pause" {
				t.Errorf("Close has counted as a failure: %d, before %d", got, failures)
			}
		})
	}
}
