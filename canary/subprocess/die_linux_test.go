package subprocess_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

func init() {
	programs["noting"] = func() {
		j, err := testutil.OpenJournal(os.Args[2])
		if err != nil {
			panic(err)
		}
		serve(j.Handler(http.HandlerFunc(handle)))
	}
	programs["dying"] = func() { serve(http.HandlerFunc(die)) }
}

// journaled returns the processes that have got each request, by X-Request-Id.
func journaled(t testing.TB, path string) map[string][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string][]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		id, pid, _ := strings.Cut(lines.Text(), " ")
		got[id] = append(got[id], pid)
	}
	return got
}

// However often the process is killed under load, no request fails that may be rescued. Of the others only those fail that a killed
// process had got, and none of them runs twice.
func TestKilledProcessFailsOnlyWhatItHadGot(t *testing.T) {
	journal := filepath.Join(t.TempDir(), "journal")
	h := started(t, subprocess.Options{Cmd: program("noting", journal), Pause: time.Millisecond})
	s := newService(t, h)
	c := newCrowd(t, s.URL, 8)
	var over, back []time.Duration
	pid, killed := 0, map[string]bool{}
	n := times(50)
	for range n {
		pid = next(t, h, pid)
		killed[fmt.Sprint(pid)] = true
		c.more(t, 50)
		t0 := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		next(t, h, pid)
		back = append(back, time.Since(t0))
		if d, ok := s.firstAfter(t0); ok {
			over = append(over, d)
		}
	}
	c.more(t, 50)
	c.end()
	t.Logf("%d requests, %d failed; stable after a kill: %s; another process: %s", c.done, len(c.failed), percentiles(over), percentiles(back))
	got := journaled(t, journal)
	unnoted := 0 // requests that a process had got, and had no time to note
	for id, problem := range c.failed {
		switch by := got[id]; {
		case strings.HasPrefix(id, "GET"):
			t.Errorf("%s may be rescued: %s", id, problem)
		case problem != "502 Bad Gateway":
			t.Errorf("%s: %s", id, problem)
		case len(by) == 0:
			unnoted++
		case len(by) > 1 || !killed[by[0]]:
			t.Errorf("%s has failed, and processes %v had got it", id, by)
		}
	}
	if unnoted > n/5+1 {
		t.Errorf("%d requests have failed that no process has noted, in %d kills", unnoted, n)
	}
	for id, by := range got {
		if strings.HasPrefix(id, "POST") && (len(by) > 1 || s.stable[id]) {
			t.Errorf("%s ran in %v, and in the stable handler: %v", id, by, s.stable[id])
		}
	}
	if st := h.Status(); st.Failures != uint64(n) || st.Starts != uint64(n+1) || st.Reason != "signal: killed" {
		t.Errorf("the status is %+v", st)
	}
}

// die ends the process as the query says.
func die(w http.ResponseWriter, r *http.Request) {
	switch way := r.URL.Query().Get("die"); way {
	case "panic":
		go panic("a goroutine of the canary")
	case "exit":
		os.Exit(7)
	case "memory":
		exhaust()
	case "fatal":
		m := map[int]int{}
		for range 8 {
			go func() {
				for i := 0; ; i++ {
					m[i%8] = i
				}
			}()
		}
	case "abort":
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
	default:
		fmt.Fprintf(w, "canary %d", os.Getpid())
		return
	}
	time.Sleep(time.Hour)
}

// exhaust allocates until the limit of memory ends the process.
func exhaust() {
	var pages uint64
	b, _ := os.ReadFile("/proc/self/statm")
	fmt.Sscan(string(b), &pages)
	limit := pages*uint64(os.Getpagesize()) + 64<<20
	_ = syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: limit, Max: limit})
	for all := []byte{1}; len(all) > 0; {
		all = append(all, all...)
	}
}

// However the process ends by itself, the stable handler answers the request that did it, and another process serves then.
func TestProcessThatEndsByItselfIsRescuedAndReplaced(t *testing.T) {
	ways := []string{"panic", "exit", "memory", "fatal", "abort"}
	h := started(t, subprocess.Options{Cmd: commandTo(t, silent(t), "dying"), Pause: time.Millisecond})
	s := newService(t, h)
	pid := 0
	for _, way := range ways {
		pid = next(t, h, pid)
		if got, want := get(s.URL), fmt.Sprint("200 canary ", pid); got != want {
			t.Errorf("%s: the answer is %q before, want %q", way, got, want)
		}
		if got := get(s.URL + "?die=" + way); got != "200 stable " {
			t.Errorf("%s: the answer is %q", way, got)
		}
		next(t, h, pid)
		t.Logf("%s: %s", way, h.Status().Reason)
	}
	if st := h.Status(); st.Failures != uint64(len(ways)) {
		t.Errorf("the status is %+v", st)
	}
}

// If memory runs out, the kernel kills the process before its host.
func TestProcessIsKilledBeforeItsHost(t *testing.T) {
	h := started(t, subprocess.Options{Cmd: program("serve")})
	adj, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", h.Status().PID))
	if err != nil || strings.TrimSpace(string(adj)) != "999" {
		t.Errorf("oom_score_adj is %s, %v", adj, err)
	}
}
