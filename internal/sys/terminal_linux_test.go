package sys_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// terminalEnv is the variable that makes this program run playTerminal.
const terminalEnv = "MIDAIR_TERMINAL"

// If terminalEnv is set, playTerminal writes the results of Ends and Nohup to descriptor 3. It writes them again for each byte
// that it reads from descriptor 4.
func playTerminal() {
	if os.Getenv(terminalEnv) == "" {
		return
	}
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // otherwise SIGHUP would end this process
	}
	watched := sys.WatchTerminal()
	answer, ask := os.NewFile(3, "answer"), os.NewFile(4, "ask")
	for {
		fmt.Fprintln(answer, watched.Ends(), sys.Nohup())
		if _, err := ask.Read(make([]byte, 1)); err != nil {
			watched.Close()
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

// Ends returns true only for a short time after the end of the terminal, because a later SIGHUP is a request. In a process
// without a terminal Ends never returns true. Nohup reports whether the process was started with SIGHUP ignored.
func TestEndOfTheTerminalIsAMoment(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP) // the started process must not ignore SIGHUP, even if this test does
	defer signal.Stop(caught)
	for name, c := range map[string]struct {
		attr   syscall.SysProcAttr
		prefix string
		ends   bool
	}{
		"terminal":    {syscall.SysProcAttr{Setsid: true, Setctty: true}, "", true},
		"nohup":       {syscall.SysProcAttr{Setsid: true, Setctty: true}, "trap '' HUP; ", true},
		"no terminal": {syscall.SysProcAttr{Setsid: true}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			master, slave := terminal(t)
			answerR, answerW := pipe(t)
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
			answers := bufio.NewScanner(answerR)
			said := func() bool {
				if !answers.Scan() {
					t.Fatal("no answer: ", answers.Err())
				}
				ends, nohup, _ := strings.Cut(answers.Text(), " ")
				if want := strconv.FormatBool(name == "nohup"); nohup != want {
					t.Errorf("nohup: %s, want %s", nohup, want)
				}
				return ends == "true"
			}
			if said() {
				t.Error("true before the end")
			}
			mustWrite(t, master, "typed\n") // Ends must not take input for the end
			mustWrite(t, ask, "x")
			if said() {
				t.Error("true after input")
			}
			master.Close() // ends the terminal
			until := func(want bool) {
				t.Helper()
				for begin := time.Now(); ; <-time.After(20 * time.Millisecond) {
					mustWrite(t, ask, "x")
					if said() == want {
						return
					}
					if time.Since(begin) > 10*time.Second {
						t.Fatalf("never %v", want)
					}
				}
			}
			if c.ends {
				until(true) // a process that is just being started may have the master open for a moment
			}
			until(false)
			ask.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
