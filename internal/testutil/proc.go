package testutil

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// familyEnv marks a started process and all its descendants.
const familyEnv = "MIDAIR_TEST_FAMILY"

// tailLines is how many lines of a process's output the log of a failed test shows.
const tailLines = 60

// Cfg says how a process is started. The zero value is a role without arguments in the directory of the test.
type Cfg struct {
	Args []string // the arguments after the program's name
	Env  []string // variables to add to the environment of the test, of which variables of testutil are left out
	Dir  string   // the working directory; default: the directory of the test
	Out  *os.File // standard output and standard error; default: a file, whose content Output returns
}

// Proc is a started process and its family: the descendants with the same environment. The end of the test kills all of them.
type Proc struct {
	t      testing.TB
	cmd    *exec.Cmd
	family string
	out    string
	exited chan struct{}
}

// Start starts the test binary in a role that was given to Main.
func Start(t testing.TB, role string, cfg Cfg) *Proc {
	t.Helper()
	started.Lock()
	started.roles[role] = true
	started.Unlock()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("start role %s: %v", role, err)
	}
	return start(t, cfg, role, exec.Command(self, cfg.Args...))
}

// StartCommand starts a program with the arguments of cfg followed by args.
func StartCommand(t testing.TB, cfg Cfg, path string, args ...string) *Proc {
	t.Helper()
	all := append(append([]string(nil), cfg.Args...), args...)
	return start(t, cfg, "", exec.Command(path, all...))
}

func start(t testing.TB, cfg Cfg, role string, cmd *exec.Cmd) *Proc {
	t.Helper()
	p := &Proc{t: t, cmd: cmd, family: rand.Text(), exited: make(chan struct{})}
	p.out = filepath.Join(t.TempDir(), "output")
	cmd.Dir = cfg.Dir
	cmd.Env = append(environ(role), familyEnv+"="+p.family, runEnv+"="+runID)
	cmd.Env = append(cmd.Env, cfg.Env...)
	cmd.SysProcAttr = ownSession()
	if err := p.launch(cfg.Out); err != nil {
		t.Fatalf("start %s %s: %v", cmd.Path, role, err)
	}
	t.Cleanup(p.cleanup)
	return p
}

// environ returns the environment of the test without the variables of testutil, and with the role.
func environ(role string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MIDAIR_TEST_") {
			env = append(env, e)
		}
	}
	if role != "" {
		env = append(env, roleEnv+"="+role)
	}
	if raceEnabled { // otherwise every exit takes a second
		env = append(env, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	}
	return env
}

func (p *Proc) launch(out *os.File) error {
	f, err := os.OpenFile(p.out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if out != nil {
		p.cmd.Stdout, p.cmd.Stderr = out, out
	}
	if err := startGuard(); err != nil {
		return err
	}
	if err := adopter.start(p.cmd); err != nil {
		return err
	}
	go func() { // ends with the process, which cleanup kills
		defer close(p.exited)
		_ = p.cmd.Wait() // the result is in ProcessState
	}()
	return nil
}

// PID is the process id of the started process.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the started process has ended and was waited for. Descendants may live on.
func (p *Proc) Exited() <-chan struct{} { return p.exited }

// running reports whether the started process has not been waited for: nobody else has its pid.
func (p *Proc) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends sig to the started process. If the process has ended, the test fails.
func (p *Proc) Signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("signal %v to %d: %v", sig, p.PID(), err)
	}
}

// Kill ends the started process with SIGKILL, and waits for its end. Descendants live on.
func (p *Proc) Kill() {
	_ = p.cmd.Process.Kill() // fails only if the process has ended
	<-p.exited
}

// ErrStillRunning is the error of Proc.Wait if the process has not ended within the timeout.
var ErrStillRunning = errors.New("testutil: process still runs")

// Wait waits for the end of the started process and returns the exit code: 128+n after signal n.
func (p *Proc) Wait(timeout time.Duration) (exitCode int, err error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		return -1, fmt.Errorf("pid %d after %v: %w", p.PID(), timeout, ErrStillRunning)
	}
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// Output returns what the family has written to standard output and standard error.
func (p *Proc) Output() string {
	b, err := os.ReadFile(p.out)
	if err != nil {
		p.t.Errorf("read output of %d: %v", p.PID(), err)
	}
	return string(b)
}

// WaitOutput waits until the output has a complete line with marker, and returns the rest of the line after the marker. If
// there is no such line after timeout, WaitOutput ends the test.
func (p *Proc) WaitOutput(timeout time.Duration, marker string) string {
	p.t.Helper()
	var rest string
	Until(p.t, timeout, fmt.Sprintf("%q in the output of %d", marker, p.PID()), func() bool {
		_, after, found := strings.Cut(p.Output(), marker)
		line, _, complete := strings.Cut(after, "\n")
		rest = line
		return found && complete
	})
	return rest
}

// Family lists the living processes of the family, in the order of their pids: the started process, and all processes that
// have inherited its environment.
func (p *Proc) Family() []int { return familyPIDs(p) }

// WaitFamily waits until the family has exactly n living processes. If this takes longer than timeout, WaitFamily ends the
// test.
func (p *Proc) WaitFamily(t testing.TB, n int, timeout time.Duration) {
	t.Helper()
	var pids []int
	if !poll(timeout, func() bool { pids = p.Family(); return len(pids) == n }) {
		t.Fatalf("family of %d after %v: %v, want %d processes", p.PID(), timeout, pids, n)
	}
}

// cleanup kills the processes that still live, shows the output if the test failed, and forgets the family.
func (p *Proc) cleanup() {
	p.Kill()
	if !poll(settleTime, p.killFamily) {
		p.t.Errorf("family of %d: %v survive SIGKILL", p.PID(), p.Family())
	}
	if !poll(settleTime, func() bool { return adopter.settled(p.PID()) }) {
		p.t.Errorf("family of %d: zombies are left", p.PID())
	}
	adopter.leave(p.PID())
	if p.t.Failed() {
		p.t.Logf("output of %d:\n%s", p.PID(), tail(p.Output(), tailLines))
	}
}

// killFamily sends SIGKILL to every living member of the family, and reports whether there was no member.
func (p *Proc) killFamily() bool {
	pids := p.Family()
	for _, pid := range pids {
		killPID(pid)
	}
	return len(pids) == 0
}

// tail returns the last lines of s.
func tail(s string, lines int) string {
	at := len(strings.TrimSuffix(s, "\n"))
	for ; lines > 0 && at >= 0; lines-- {
		at = strings.LastIndexByte(s[:at], '\n')
	}
	return s[at+1:]
}
