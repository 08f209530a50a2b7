package subprocess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/process"
)

// lastWords is how long the handshake is read after the end of a process, and how long the end of a process is awaited after the end
// of its standard output.
const lastWords = time.Second

// A child is a started process. It is the Runner by which go-plugin starts and ends the process.
type child struct {
	cmd    *exec.Cmd
	path   string   // of the program, for messages
	image  *os.File // the sealed copy that runs; nil without a checksum
	stdin  *os.File // the process ends when this end of its standard input is closed
	stdout *os.File // from which go-plugin reads the handshake
	ended  chan struct{}
	how    string // how the process has ended, and whether by SIGKILL; written before ended is closed
	died   bool

	mu     sync.Mutex
	killed bool // the process does not start any more
}

var _ runner.Runner = (*child)(nil)

// newChild prepares the command of the options.
func newChild(o *Options) (*child, error) {
	var cmd *exec.Cmd
	err := guard.Call(func() error { cmd = o.Cmd(); return nil })
	switch {
	case err != nil:
		return nil, fmt.Errorf("subprocess: Cmd: %w", err)
	case cmd == nil:
		return nil, errors.New("subprocess: Cmd has returned nil: return a new command for each call")
	case cmd.Err != nil:
		return nil, fmt.Errorf("subprocess: %w", cmd.Err)
	case cmd.Process != nil:
		return nil, errors.New("subprocess: Cmd has returned a command that was started: return a new one for each call")
	case cmd.Stdin != nil || cmd.Stdout != nil:
		return nil, errors.New("subprocess: Stdin and Stdout of the command are set: leave them nil, as they connect the process with its host")
	case cmd.Stderr == nil:
		cmd.Stderr = os.Stderr
	}
	if _, ok := cmd.Stderr.(*os.File); !ok {
		return nil, fmt.Errorf("subprocess: Stderr of the command is a %T: pass an *os.File, as a pipe to the host would break with the host", cmd.Stderr)
	}
	if cmd.Env == nil {
		cmd.Env = cleaned(os.Environ())
	}
	c := &child{cmd: cmd, path: cmd.Path, ended: make(chan struct{})}
	if o.Checksum != nil {
		image, err := seal(cmd.Path, o.Checksum)
		if err != nil {
			return nil, err
		}
		if o.sealed != nil {
			o.sealed()
		}
		c.image, cmd.Path = image, "/proc/self/fd/"+strconv.Itoa(int(image.Fd()))
	}
	return c, nil
}

// foreign are the variables of service managers and of upgrades. By these variables, a process would believe that the sockets of
// the host are for the process, or would report to the service manager in place of the host.
var foreign = []string{process.Sentinel, "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "MAINPID", "MANAGERPID", "INVOCATION_ID", "JOURNAL_STREAM", "MIDAIR_", pluginEnv}

func cleaned(env []string) (kept []string) {
	for _, v := range env {
		if !hasPrefix(v, foreign) {
			kept = append(kept, v)
		}
	}
	return kept
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// Start starts the process.
func (c *child) Start(context.Context) error {
	defer c.closeImage()
	in, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	stdout, out, err := os.Pipe()
	if err != nil {
		stdin.Close()
		return err
	}
	defer out.Close()
	c.cmd.Stdin, c.cmd.Stdout, c.stdin, c.stdout = in, out, stdin, stdout
	c.mu.Lock()
	defer c.mu.Unlock()
	err = errKilled
	if !c.killed {
		started := make(chan error)
		go c.run(started) // ends with the process
		err = <-started
	}
	if err != nil {
		stdin.Close()
		stdout.Close()
		if c.image != nil && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: a sealed copy is executed by a path in /proc: is /proc mounted?", err)
		}
		if _, gone := os.Stat(c.cmd.Dir); c.cmd.Dir != "" && gone != nil {
			return fmt.Errorf("start %s: the Dir of the command is %.100q: %w", c.path, c.cmd.Dir, gone)
		}
		return process.ExplainStart(c.path, err)
	}
	return nil
}

var errKilled = errors.New("there was no time to start")

// run starts the process, and waits for the end of the process. When the host ends, so does the thread that has started the
// process, and the kernel sends the process SIGTERM. The signal ends programs that do not serve yet, or never will. Serve ignores
// SIGTERM, and notices the end of the host by the standard input.
func (c *child) run(started chan<- error) {
	runtime.LockOSThread() // so that no other goroutine ends the thread
	defer runtime.UnlockOSThread()
	attr := syscall.SysProcAttr{}
	if c.cmd.SysProcAttr != nil {
		attr = *c.cmd.SysProcAttr
	}
	if attr.Pdeathsig == 0 {
		attr.Pdeathsig = syscall.SIGTERM
	}
	c.cmd.SysProcAttr = &attr
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = c.cmd.Wait()
	if state := c.cmd.ProcessState; state != nil {
		status, _ := state.Sys().(syscall.WaitStatus)
		c.how, c.died = state.String(), status.Signaled() && status.Signal() == syscall.SIGKILL
	} else {
		c.how = err.Error()
	}
	c.stdin.Close()
	_ = c.stdout.SetReadDeadline(time.Now().Add(lastWords)) // a program that the process has started may have it open
	close(c.ended)
}

// closeImage closes the sealed copy. A process that runs does not need the descriptor.
func (c *child) closeImage() {
	if c.image != nil {
		c.image.Close()
	}
}

// Wait waits for the end of the process.
func (c *child) Wait(context.Context) error {
	<-c.ended
	return nil
}

// Kill kills the process, and waits for its end. A process that has not started will not start.
func (c *child) Kill(context.Context) error {
	if c.sendKill() {
		<-c.ended
	}
	return nil
}

// sendKill is Kill without the wait. It reports whether the process was started.
func (c *child) sendKill() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	if c.cmd.Process == nil {
		return false
	}
	_ = c.cmd.Process.Kill() // by a pidfd
	return true
}

// pid returns the pid of the process, or 0 before the start.
func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd.Process == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// hasEnded reports whether the process has ended.
func (c *child) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// endedItself reports whether the process has ended without Kill.
func (c *child) endedItself() bool {
	if !c.hasEnded() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.killed || !c.died // a process that has exited before Kill counts as ended by itself
}

// The other methods of runner.Runner.

func (c *child) Stdout() io.ReadCloser { return untilEnd{c.stdout, c.ended} }

// untilEnd is the standard output of a process. A process that exits closes its standard output before its exit status is known, and
// go-plugin kills a process that has written nothing. So the end of the output is reported after the end of the process, or after
// lastWords if the process goes on. Otherwise the process could seem to have ended by SIGKILL.
type untilEnd struct {
	*os.File
	ended <-chan struct{}
}

func (u untilEnd) Read(p []byte) (int, error) {
	n, err := u.File.Read(p)
	if err == io.EOF {
		pause(context.Background(), u.ended, lastWords)
	}
	return n, err
}

// Stderr has nothing: the process has its standard error itself.
func (c *child) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

func (c *child) Name() string                    { return c.path }
func (c *child) ID() string                      { return strconv.Itoa(c.pid()) }
func (c *child) Diagnose(context.Context) string { return "" }

func (c *child) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

func (c *child) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
