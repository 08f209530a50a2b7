package subprocess_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

const patience = 30 * time.Second

var kills = flag.Int("midair.kills", 0, "how often tests kill, replace or stop a process; 0: 50, or 5 with -short")

// init lets the programs of a test with -race end at once. This process has read the variable already.
func init() {
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
}

// times returns how often a test does what it does most.
func times(full int) int {
	switch {
	case *kills > 0:
		return *kills
	case testing.Short():
		return max(full/10, 2)
	}
	return full
}

// shortDir returns a new directory with a short path.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A logbook keeps the lines of a logger.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// started starts a handler, in a directory of its own if the options have none. At the end of the test the handler is closed, and
// no process and no directory of the handler may be left.
func started(t testing.TB, o subprocess.Options) *subprocess.Handler {
	t.Helper()
	h, err := subprocess.Start(t.Context(), own(t, &o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// own completes options, so that the test has a directory and a log of its own. At the end of the test nothing may be left there.
func own(t testing.TB, o *subprocess.Options) subprocess.Options {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(shortDir(t), "s")
	}
	if o.Logger == nil {
		o.Logger = new(logbook).logger()
	}
	dir := o.Dir
	t.Cleanup(func() { nothingLeft(t, dir) })
	return *o
}

// nothingLeft reports processes and directories that are left of a directory.
func nothingLeft(t testing.TB, dir string) {
	t.Helper()
	var pids []int
	testutil.Within(10*time.Second, func() bool { pids = processesOf(dir); return len(pids) == 0 }) // a script may leave a program for a while
	if len(pids) > 0 {
		t.Errorf("the processes %v of %s are left", pids, dir)
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		t.Errorf("%s is left in %s", e.Name(), dir)
	}
}

// processesOf lists the processes that were started with a private directory in dir.
func processesOf(dir string) (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, _ := os.ReadFile(path)
		if bytes.Contains(env, []byte("MIDAIR_SUBPROCESS_DIR="+dir+"/")) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// commandTo is program, with the standard error of the process in a file.
func commandTo(t testing.TB, stderr *os.File, name string, args ...string) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := program(name, args...)()
		cmd.Stderr = stderr
		return cmd
	}
}

// silent opens a file for what a process writes to its standard error.
func silent(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A service routes all requests to a handler, and lets a stable handler answer what may be rescued.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	stable map[string]bool // the requests that the stable handler has answered, by X-Request-Id
	times  []time.Time     // when it has answered them
}

func newService(t testing.TB, h http.Handler) *service {
	t.Helper()
	s := &service{stable: map[string]bool{}}
	rt := canary.NewRouter(http.HandlerFunc(s.answer), h, canary.Options{
		Weight: canary.Fixed(1), Rescue: &canary.Rescue{Unserved: true}, Logger: new(logbook).logger(),
	})
	s.Server = httptest.NewServer(rt)
	t.Cleanup(s.Close)
	return s
}

func (s *service) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.stable[r.Header.Get("X-Request-Id")] = true
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	b, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "stable %s", b)
}

// firstAfter returns how long after a time the stable handler has answered for the first time.
func (s *service) firstAfter(t0 time.Time) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.times {
		if at.After(t0) {
			return at.Sub(t0), true
		}
	}
	return 0, false
}

// get returns the answer to a GET request, or the error as text.
func get(url string) string {
	res, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return fmt.Sprint(res.StatusCode, " ", string(b))
}

// A crowd is clients that send GET, POST with a length and POST in chunks in turn.
type crowd struct {
	client *http.Client
	url    string
	stop   chan struct{}
	wg     sync.WaitGroup

	mu     sync.Mutex
	done   int
	failed map[string]string // what has failed, by X-Request-Id, which begins with the method
}

func newCrowd(t testing.TB, url string, n int) *crowd {
	c := &crowd{url: url, stop: make(chan struct{}), failed: map[string]string{}}
	transport := &http.Transport{MaxIdleConnsPerHost: n}
	c.client = &http.Client{Transport: transport, Timeout: patience}
	for i := range n {
		c.wg.Go(func() { c.run(i) }) // ends with end
	}
	t.Cleanup(func() { c.end(); transport.CloseIdleConnections() })
	return c
}

func (c *crowd) run(client int) {
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		var body io.Reader
		id, method := fmt.Sprintf("GET-%d-%d", client, n), "GET"
		switch n % 3 {
		case 1:
			id, method, body = fmt.Sprintf("POST-%d-%d", client, n), "POST", strings.NewReader("some body")
		case 2:
			id, method, body = fmt.Sprintf("POST-chunked-%d-%d", client, n), "POST", io.MultiReader(strings.NewReader("some "), strings.NewReader("body"))
		}
		problem := c.send(id, method, body)
		c.mu.Lock()
		c.done++
		if problem != "" {
			c.failed[id] = problem
		}
		c.mu.Unlock()
	}
}

func (c *crowd) send(id, method string, body io.Reader) (problem string) {
	r, _ := http.NewRequest(method, c.url, body)
	r.Header.Set("X-Request-Id", id)
	res, err := c.client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err.Error()
	case res.StatusCode != http.StatusOK:
		return res.Status
	case method == "POST" && !strings.HasSuffix(string(b), " some body"):
		return fmt.Sprintf("the answer is %q", b)
	}
	return ""
}

// more waits until the clients have got n more answers.
func (c *crowd) more(t testing.TB, n int) {
	t.Helper()
	before := c.count()
	testutil.Until(t, patience, "answers", func() bool { return c.count() >= before+n })
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// end stops the clients.
func (c *crowd) end() {
	c.mu.Lock()
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// allAnswered ends the clients, and reports each request that has failed.
func (c *crowd) allAnswered(t testing.TB) {
	t.Helper()
	c.end()
	for id, problem := range c.failed {
		t.Errorf("%s: %s", id, problem)
	}
	t.Logf("%d requests", c.done)
}

// next waits for a process that is not the process pid.
func next(t testing.TB, h *subprocess.Handler, pid int) int {
	t.Helper()
	now := 0
	testutil.Until(t, patience, "another process", func() bool { now = h.Status().PID; return now != 0 && now != pid })
	return now
}

// percentiles shows the median and the largest of some times.
func percentiles(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	return fmt.Sprintf("p50 %v, max %v, n %d", all[len(all)/2].Round(10*time.Microsecond), all[len(all)-1].Round(10*time.Microsecond), len(all))
}
