package subprocess_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

func init() {
	programs["stops"] = func() {
		stopSelf()
		serve(http.HandlerFunc(handle))
	}
}

// A process that is stopped by a signal is found after Silence and replaced, and the stable handler answers its requests.
func TestStoppedProcessIsReplacedAndItsRequestsAreRescued(t *testing.T) {
	t.Parallel()
	h := started(t, subprocess.Options{Cmd: program("serve"), Silence: 500 * time.Millisecond})
	s := newService(t, h)
	pid := h.Status().PID
	if got := get(s.URL + "?stop"); got != "200 stable " {
		t.Errorf("the answer is %q", got)
	}
	next(t, h, pid)
	if got := h.Status().Reason; got != "killed, as it did not answer for 500ms" {
		t.Errorf("the reason is %q", got)
	}
}

// A process that is stopped in the middle of its start, or while Warm runs, is killed after StartTimeout.
func TestProcessStoppedDuringItsStartIsKilled(t *testing.T) {
	t.Parallel()
	stopInWarm := func(_ context.Context, h http.Handler) error {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/?stop", nil))
		return nil
	}
	for _, o := range []subprocess.Options{{Cmd: program("stops")}, {Cmd: program("serve"), Warm: stopInWarm}} {
		o.StartTimeout = 2 * time.Second
		h, err := subprocess.Start(t.Context(), own(t, &o))
		if err == nil {
			h.Close()
			t.Fatal("Start has returned no error")
		}
		if !strings.Contains(err.Error(), "StartTimeout of 2s") || !strings.Contains(err.Error(), os.Args[0]) {
			t.Error(err)
		}
	}
}

// Close and Replace end a process that is stopped: it is killed when it does not end in time.
func TestStoppedProcessIsKilledByClose(t *testing.T) {
	t.Parallel()
	h := started(t, subprocess.Options{Cmd: program("serve"), Silence: time.Hour})
	pid := h.Status().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := h.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := h.Status().PID
	if err := syscall.Kill(second, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.Close()
	for _, pid := range []int{pid, second} {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

// A process that cannot be reached any more, as its directory was removed, is replaced.
func TestProcessWithoutItsDirectoryIsReplaced(t *testing.T) {
	t.Parallel()
	dir := shortDir(t) + "/s"
	h := started(t, subprocess.Options{Cmd: program("serve"), Dir: dir, Silence: 500 * time.Millisecond})
	s := newService(t, h)
	pid := h.Status().PID
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if got := get(s.URL); !strings.HasPrefix(got, "200 ") {
		t.Errorf("the answer is %q", got)
	}
	next(t, h, pid)
	testutil.Until(t, patience, "an answer of the canary", func() bool { return strings.HasPrefix(get(s.URL), "200 canary") })
}
