package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/midair-go/midair/examples/internal/admin"
)

// service is the chain of processes of the service, from outside: the address, the pids, the log. All processes write their
// standard error to the same pipe, also those that the demo has not started itself: the end of the pipe is the end of the last
// process.
type service struct {
	admin    admin.Client
	addr     string
	pidFile  string
	flagFile string
	first    *exec.Cmd
	waited   chan error    // how the first process ended
	gone     chan struct{} // closed when every process has ended

	mu   sync.Mutex
	pids []int
	log  []string // the last lines
}

// plan is how an upgrade goes: the new process gets a growing share of the connections, each for a time and a number of requests.
const plan = "10%:2s:300,50%:1s:500,100%:500ms"

// startService starts the program, with further arguments, and waits until the first process serves.
func startService(ctx context.Context, exe, dir string, args ...string) (*service, error) {
	socket, addrFile := "unix:"+filepath.Join(dir, "admin"), filepath.Join(dir, "addr")
	s := &service{
		admin: admin.NewClient(socket), pidFile: filepath.Join(dir, "pid"), flagFile: filepath.Join(dir, "flags.json"),
		waited: make(chan error, 1), gone: make(chan struct{}),
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.first = exec.Command(exe, append([]string{"-addr", "127.0.0.1:0", "-addr-file", addrFile, "-pid-file", s.pidFile,
		"-admin", socket, "-flags", s.flagFile, "-sessions", filepath.Join(dir, "sessions"),
		"-steps", plan, "-grace", "5s", "-upgrade-timeout", "10s"}, args...)...)
	s.first.Stderr, s.first.SysProcAttr = w, ownGroup()
	err = s.first.Start()
	w.Close() // the processes have it now, and nobody else
	if err != nil {
		r.Close()
		return nil, err
	}
	s.pids = []int{s.first.Process.Pid}
	go func() { s.waited <- s.first.Wait() }() // ends with the process, which end sees to
	go s.listen(r)                             // ends with all processes
	if err := s.until(ctx, "the service is up", func() bool { _, err := readPID(s.pidFile); return err == nil }); err != nil {
		return s, err
	}
	addr, err := os.ReadFile(addrFile)
	s.addr = strings.TrimSpace(string(addr))
	return s, err
}

// started matches the lines of the log with the pid of the first serving process, and of each candidate of an upgrade.
var started = regexp.MustCompile(`started a new process" candidate=(\d+)|msg="upgrade: serving" generation=1 .*pid=(\d+)`)

// listen reads the log of the processes: for their pids, and to show the last lines after a failure.
func (s *service) listen(r *os.File) {
	defer close(s.gone)
	defer r.Close()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		s.mu.Lock()
		s.log = append(s.log[max(0, len(s.log)-39):], lines.Text())
		if m := started.FindStringSubmatch(lines.Text()); m != nil {
			pid, _ := strconv.Atoi(m[1] + m[2]) // one of them is empty
			s.pids = append(s.pids, pid)
		}
		s.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, r) // behind a line that is too long
}

// weigh changes the weight of the new cart in the flag file, and waits until the router has it.
func (s *service) weigh(ctx context.Context, from, to string, weight float64) error {
	content, err := os.ReadFile(s.flagFile)
	if err != nil {
		return err
	}
	edited := strings.Replace(string(content), `"defaultVariant": "`+from+`"`, `"defaultVariant": "`+to+`"`, 1)
	if err := writeFile(s.flagFile, edited); err != nil {
		return err
	}
	return s.until(ctx, "the canary has a weight of "+to, func() bool {
		var v siteView
		err := s.admin.Status(ctx, &v)
		return err == nil && v.Canary.Weight == weight
	})
}

// until polls cond: the service sends no events to the demo.
func (s *service) until(ctx context.Context, what string, cond func() bool) error {
	limit := time.Now().Add(10 * time.Second)
	for !cond() {
		if s.over() {
			return errors.New("the service has ended")
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("waited for 10 s: %s", what)
		}
	}
	return nil
}

// end drains the service, kills the processes that are left after limit, and returns when every process has ended. An error
// means that a process had to be killed.
func (s *service) end(limit time.Duration) error {
	if s.over() {
		return nil
	}
	if pid, err := readPID(s.pidFile); err == nil {
		signalPID(pid, syscall.SIGTERM)
	} else {
		_ = s.first.Process.Signal(syscall.SIGTERM) // fails if it has ended, which is as good
	}
	err := s.wait(limit)
	if err == nil {
		return nil
	}
	for _, pid := range s.started() {
		signalPID(pid, os.Kill)
	}
	return errors.Join(err, s.wait(limit))
}

// over reports whether every process has ended.
func (s *service) over() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// wait waits for the end of all processes, for as long as limit.
func (s *service) wait(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-s.gone:
		return nil
	case <-timer.C:
		return fmt.Errorf("after %v some of the processes %v still run", limit, s.started())
	}
}

func (s *service) started() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int(nil), s.pids...)
}

func (s *service) lastLines() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

func signalPID(pid int, sig os.Signal) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Signal(sig) // fails if it has ended, which is as good
	}
}

func readPID(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
