// Package servers starts real servers for tests: Redis, PostgreSQL and MariaDB from Debian packages, each on a free loopback
// port with a directory of its own.
//
// A [Server] is killed, suspended and started again on the same port and the same data, in the way of a real outage. The end
// of the test ends its processes.
//
// # Goroutines
//
// Each process of a server has one goroutine, which ends with the process. A Server is used by one goroutine at a time.
package servers

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// startLimit is how long a server may take until it answers.
const startLimit = 30 * time.Second

// A Server is a server that a test has started.
type Server struct {
	// Addr is host and port.
	Addr string

	t      testing.TB
	name   string
	launch func() *testutil.Proc // starts a process on Addr and the data of the server
	ready  func() error          // nil if the server answers
	quit   os.Signal             // ends the server in its normal way
	proc   *testutil.Proc        // nil while the server is down
}

// Start starts a server that is down, and waits until the server answers.
func (s *Server) Start() {
	s.t.Helper()
	if s.proc != nil {
		s.t.Fatalf("%s at %s runs already", s.name, s.Addr)
	}
	s.Launch()
	s.Wait(startLimit)
}

// Launch starts a server that is down, and does not wait: see Wait.
func (s *Server) Launch() { s.proc = s.launch() }

// Wait waits until the server answers. After limit Wait ends the test.
func (s *Server) Wait(limit time.Duration) {
	s.t.Helper()
	var err error
	ended := func() bool {
		select {
		case <-s.proc.Exited():
			return true
		default:
			return false
		}
	}
	if !testutil.Within(limit, func() bool { err = s.ready(); return err == nil || ended() }) || err != nil {
		s.t.Fatalf("%s at %s does not answer: %v\n%s", s.name, s.Addr, err, s.proc.Output())
	}
}

// Restart stops the server in its normal way, and starts it again.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Stop ends the server in its normal way, and waits for its end.
func (s *Server) Stop() {
	s.t.Helper()
	s.proc.Signal(s.quit)
	if _, err := s.proc.Wait(startLimit); err != nil {
		s.t.Fatalf("%s at %s does not stop: %v\n%s", s.name, s.Addr, err, s.proc.Output())
	}
	s.end()
}

// Kill ends all processes of the server with SIGKILL, and waits for their end.
func (s *Server) Kill() {
	s.t.Helper()
	if len(s.proc.Family()) == 0 {
		s.t.Fatalf("%s at %s has no process", s.name, s.Addr)
	}
	killAll(s.proc)
	s.proc.Kill()
	s.end()
}

// end waits for the processes that the server has left behind.
func (s *Server) end() {
	s.t.Helper()
	proc := s.proc
	s.proc = nil
	proc.WaitFamily(s.t, 0, startLimit)
}

// Suspend stops all processes of the server with SIGSTOP: connections stay open, and nothing answers.
func (s *Server) Suspend() {
	s.t.Helper()
	s.all(suspend)
}

// Continue lets a suspended server go on.
func (s *Server) Continue() {
	s.t.Helper()
	s.all(resume)
}

func (s *Server) all(sig os.Signal) {
	s.t.Helper()
	pids := s.proc.Family()
	if len(pids) == 0 {
		s.t.Fatalf("%s at %s has no process", s.name, s.Addr)
	}
	for _, pid := range pids {
		s.signal(pid, sig)
	}
}

// signal sends a signal to a process, which may have ended since it was listed.
func (s *Server) signal(pid int, sig os.Signal) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Signal(sig)
	}
}

// PID is the process id of the server's first process.
func (s *Server) PID() int { return s.proc.PID() }

// Output is what the server has written since its last start.
func (s *Server) Output() string { return s.proc.Output() }

// String names the server in messages.
func (s *Server) String() string { return fmt.Sprintf("%s at %s", s.name, s.Addr) }
