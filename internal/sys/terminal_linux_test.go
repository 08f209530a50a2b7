package sys_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// terminalEnv makes this program answer what TerminalClosed says, before and after the end of its terminal.
const terminalEnv = "MIDAIR_TERMINAL"

// playTerminal writes what TerminalClosed says to descriptor 3, then again for each byte that it reads from descriptor 4,
// if this process was started for that.
func playTerminal() {
	if os.Getenv(terminalEnv) == "" {
		return
	}
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // the end of a terminal ends its processes otherwise
	}
	answer, ask := os.NewFile(3, "answer"), os.NewFile(4, "ask")
	for {
		fmt.Fprintln(answer, sys.TerminalClosed())
		if _, err := ask.Read(make([]byte, 1)); err != nil {
			os.Exit(0)
		}
	}
}

// terminal opens a pseudo terminal.
func terminal(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(sys.FD(master)), unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(int(sys.FD(master)), unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TerminalClosed is true only when the terminal of a process has ended, and never for a process that ignores SIGHUP, as
// nohup makes it, or that has no terminal.
func TestTerminalClosedTellsTheEndOfTheTerminal(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP) // a process does not ignore it, although this one was started by nohup
	defer signal.Stop(caught)
	for name, c := range map[string]struct {
		attr   syscall.SysProcAttr
		prefix string
		want   string
	}{
		"terminal":    {syscall.SysProcAttr{Setsid: true, Setctty: true}, "", "false\ntrue\n"},
		"nohup":       {syscall.SysProcAttr{Setsid: true, Setctty: true}, "trap '' HUP; ", "false\nfalse\n"},
		"no terminal": {syscall.SysProcAttr{Setsid: true}, "", "false\nfalse\n"},
	} {
		t.Run(name, func(t *testing.T) {
			master, slave := terminal(t)
			answer, answerW := pipe(t)
			askR, ask := pipe(t)
			cmd := exec.Command("/bin/sh", "-c", c.prefix+`exec "$0"`, os.Args[0])
			cmd.Env = append(os.Environ(), terminalEnv+"=1", "GORACE=atexit_sleep_ms=0")
			cmd.Stdin, cmd.ExtraFiles, cmd.SysProcAttr = slave, []*os.File{answerW, askR}, &c.attr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			answerW.Close()
			askR.Close()
			slave.Close()
			var got strings.Builder
			if _, err := io.CopyN(&got, answer, int64(len("false\n"))); err != nil {
				t.Error(err)
			}
			master.Close() // the terminal ends with it
			mustWrite(t, ask, "x")
			ask.Close()
			if _, err := io.Copy(&got, answer); err != nil || !strings.HasPrefix(got.String(), c.want) {
				t.Errorf("%q, %v, want %q", got.String(), err, c.want)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
