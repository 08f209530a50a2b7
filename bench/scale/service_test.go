//go:build linux

package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// The environment of the service.
const (
	dirEnv   = "MIDAIR_SCALE_DIR"   // the directory of the pid file, the journal and the control sockets
	judgeEnv = "MIDAIR_SCALE_JUDGE" // if set, upgrades have a Bake that the test controls
	procsEnv = "MIDAIR_SCALE_PROCS" // GOMAXPROCS of candidates
	quietEnv = "MIDAIR_SCALE_QUIET" // IdleGrace of the drain
	takenEnv = "MIDAIR_SCALE_TAKEN" // if set, each process writes the connections that it has got to a file, see takenOf
)

// grace is how long a drain of the service may take.
const grace = 20 * time.Second

// serviceMain is the service: an HTTP server that answers with its pid, and a control socket for the test.
func serviceMain() error {
	dir := os.Getenv(dirEnv)
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	c := &control{commits: make(chan struct{}, 1)}
	o := upgrade.Options{PIDFile: filepath.Join(dir, "pid"), Soak: -1, AbortGrace: grace}
	if os.Getenv(judgeEnv) != "" {
		o.Bake = c.bake
	}
	if n := os.Getenv(procsEnv); n != "" {
		o.Env = append(os.Environ(), "GOMAXPROCS="+n)
	}
	up, err := upgrade.New(o)
	if err != nil {
		return err
	}
	defer up.Close()
	ln, err := up.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	journal, err := testutil.OpenJournal(filepath.Join(dir, "journal"))
	if err != nil {
		return err
	}
	defer journal.Close()
	opts := drain.Options{Grace: grace, Move: up.Move, Rebalance: up.Rebalance(), Hurry: up.Hurry()}
	if opts.IdleGrace, _ = time.ParseDuration(os.Getenv(quietEnv)); opts.IdleGrace > 0 {
		opts.Grace += opts.IdleGrace
	}
	hs := &http.Server{Handler: journal.Handler(answers())}
	if os.Getenv(takenEnv) != "" {
		taken, err := os.OpenFile(takenOf(dir, os.Getpid()), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer taken.Close()
		hs.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			fmt.Fprintln(taken, c.RemoteAddr())
			return ctx
		}
	}
	srv := drain.NewServer(hs, opts)
	c.up, c.srv, c.addr = up, srv, ln.Addr().String()
	if err := c.listen(dir); err != nil {
		return err
	}
	err = up.Run(context.Background(), func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { c.ended.Store(int64(sys.Uptime())) })
		return srv.Serve(ctx, ln)
	})
	last, _ := json.Marshal(c.status())
	fmt.Fprintf(os.Stderr, "%s%s\n", lastStatus(os.Getpid()), last)
	return err
}

// takenOf is the path of the file with the clients' addresses of all connections that a process has got.
func takenOf(dir string, pid int) string { return filepath.Join(dir, fmt.Sprintf("taken-%d", pid)) }

// lastStatus begins the line that a process writes at its end; the rest is its status.
func lastStatus(pid int) string { return fmt.Sprintf("scale: last status of %d: ", pid) }

// answers returns a handler whose answers name the process.
func answers() http.Handler {
	pid := strconv.Itoa(os.Getpid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(20 * time.Millisecond)
		}
		w.Header().Set("X-Pid", pid)
		_, _ = w.Write([]byte("ok\n"))
	})
}

// control is how the test controls a process of the service: an HTTP server on a unix socket that no other process inherits.
type control struct {
	up        *upgrade.Upgrader
	srv       *drain.Server
	addr      string // of the service
	candidate atomic.Pointer[upgrade.Candidate]
	commits   chan struct{}
	ended     atomic.Int64 // when the context of serve ended, as sys.Uptime; 0: it has not ended
}

// status is what a process says about itself.
type status struct {
	PID, Candidate int // Candidate is the pid of the candidate while Bake runs; 0: Bake does not run
	Addr           string
	New, Idle      int           // connections of drain's Status
	All            int           // connections in all states
	CPU            time.Duration // of the whole process since its start
	Peak           int           // the peak of the resident memory, in KiB
	Ended          time.Duration // when the context of serve ended, as sys.Uptime; 0: it has not ended
}

func (c *control) status() status {
	s := c.srv.Status()
	about := status{PID: os.Getpid(), Addr: c.addr, New: s.New, Idle: s.Idle, CPU: cpu(), Peak: peak()}
	about.Ended = time.Duration(c.ended.Load())
	about.All = s.New + s.Idle + s.Active + s.Hijacked + s.Closing
	if cand := c.candidate.Load(); cand != nil {
		about.Candidate = cand.PID()
	}
	return about
}

// bake lets the test decide.
func (c *control) bake(ctx context.Context, cand *upgrade.Candidate) error {
	c.candidate.Store(cand)
	defer c.candidate.Store(nil)
	select {
	case <-c.commits:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listen serves the control socket until the process ends.
func (c *control) listen(dir string) error {
	ln, err := net.Listen("unix", socketOf(dir, os.Getpid()))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(c.status()) })
	for path, fn := range map[string]func(value string) error{
		"/weight":  c.weight,
		"/abort":   func(string) error { return c.up.Abort("the test aborts") },
		"/commit":  func(string) error { c.commits <- struct{}{}; return nil },
		"/squeeze": squeeze,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := fn(r.FormValue("v")); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
			}
		})
	}
	go func() { _ = http.Serve(ln, mux) }() // ends with the process
	return nil
}

// socketOf is the path of a process's control socket.
func socketOf(dir string, pid int) string { return filepath.Join(dir, fmt.Sprintf("control-%d", pid)) }

func (c *control) weight(value string) error {
	w, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return err
	}
	cand := c.candidate.Load()
	if cand == nil {
		return errors.New("Bake does not run")
	}
	return cand.SetWeight(w)
}

// squeeze leaves this process only a number of free descriptors.
func squeeze(value string) error {
	free, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	highest := 0
	for _, fd := range testutil.OpenFDs() {
		number, _, _ := strings.Cut(fd, " ")
		n, _ := strconv.Atoi(number)
		highest = max(highest, n)
	}
	limit.Cur = min(uint64(highest+free+2), limit.Max)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	var held []int // they stay open
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		held = append(held, fd)
	}
	if len(held) < free {
		return fmt.Errorf("only %d descriptors were free, want %d", len(held), free)
	}
	for _, fd := range held[:free] {
		_ = unix.Close(fd)
	}
	return nil
}

// cpu returns the processor time that this process has used.
func cpu() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// peak returns the peak of the resident memory of this process's program, in KiB. Getrusage returns more: it includes the
// program from which the process was started.
func peak() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	line, _, _ := strings.Cut(after, "kB")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

// busyMain uses a processor until the test ends the process, but not longer than two minutes.
func busyMain() int {
	for began := time.Now(); time.Since(began) < 2*time.Minute; {
		for range 1_000_000 {
			spun++
		}
	}
	return 0
}

var spun uint64
