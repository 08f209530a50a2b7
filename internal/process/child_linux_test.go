package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A child of these tests is the test binary. The variable roleEnv tells the child what to do. When the child is ready, it makes
// the file of the variable saysEnv.
const (
	roleEnv = "MIDAIR_PROCESS_TEST_ROLE"
	saysEnv = "MIDAIR_PROCESS_TEST_SAYS"
)

// PlayStubborn is called by TestMain. If this process was started as a child of these tests, PlayStubborn does what roleEnv
// says.
func PlayStubborn() {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
}

// play does what the role says, in a process that ignores SIGTERM.
func play(role string) int {
	signal.Ignore(syscall.SIGTERM)
	if part, ok := strings.CutPrefix(role, "middle "); ok {
		return playMiddle(part)
	}
	says := ""
	for _, part := range strings.Fields(role) {
		switch part {
		case "helper": // stays in the group that this process was started in
			cmd := exec.Command("sleep", "60")
			if err := cmd.Start(); err != nil {
				return 2
			}
			says = strconv.Itoa(cmd.Process.Pid)
		case "group", "session":
			theirs, err := syscall.Getpgid(os.Getppid())
			if err == nil {
				err = syscall.Setpgid(0, theirs)
			}
			if err == nil && part == "session" {
				_, err = syscall.Setsid()
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, role, err)
				return 3
			}
		}
	}
	if say("", says) != nil {
		return 4
	}
	if strings.Contains(role, "exit") {
		return 7
	}
	for {
		time.Sleep(time.Hour)
	}
}

// say writes a text to the file of saysEnv, with kind added to the name.
func say(kind, text string) error {
	path := os.Getenv(saysEnv) + kind
	return errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path))
}

// startAs starts a child, waits until the child is ready, and returns the text that the child has written to its file.
func startAs(t *testing.T, role string) (c *Child, says string) {
	t.Helper()
	c, says, _ = startSaying(t, role)
	return c, says
}

// startSaying is startAs, but also returns the path of the file.
func startSaying(t *testing.T, role string) (c *Child, says, path string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "says")
	c, err = Start(Program{path: exe, args: []string{exe}}, append(os.Environ(), roleEnv+"="+role, saysEnv+"="+path), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(c.PID, unix.SIGKILL) // Child.Kill is what the tests test
		<-c.Exited
		c.Control.Close()
		c.Close()
	})
	until(t, role+" is ready", func() bool {
		b, err := os.ReadFile(path)
		says = string(b)
		return err == nil
	})
	return c, says, path
}

const patience = 30 * time.Second

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", patience, what)
		}
		<-time.After(time.Millisecond)
	}
}

func mustEnd(t *testing.T, c *Child) {
	t.Helper()
	select {
	case <-c.Exited:
	case <-time.After(patience):
		t.Fatalf("pid %d lives on", c.PID)
	}
}

// runs reports whether a process exists and is no zombie.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// Kill ends a child even if the child has moved into another group or into a session of its own. If the child has left a helper
// in the group in which the child was started, Kill ends the helper too.
func TestKillEndsAChildThatHasMoved(t *testing.T) {
	for _, role := range []string{"stay", "group", "session", "helper", "helper group", "session helper"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			c, says := startAs(t, role)
			c.Signal(syscall.SIGTERM)
			if err := c.Kill(); err != nil {
				t.Error(err)
			}
			mustEnd(t, c)
			if c.Status != "signal: killed" {
				t.Errorf("status %q", c.Status)
			}
			if helper, _ := strconv.Atoi(says); helper > 0 {
				until(t, "the helper has ended", func() bool { return !runs(helper) })
			}
		})
	}
}

// After a child was reaped, Kill sends no signal, because another group may have the number of the child's group.
func TestKillAfterTheEndSignalsNobody(t *testing.T) {
	t.Parallel()
	c, says := startAs(t, "helper exit")
	mustEnd(t, c)
	helper, _ := strconv.Atoi(says) // its group has the number of the child
	defer func() { _ = unix.Kill(helper, unix.SIGKILL) }()
	if err := c.Kill(); err != nil {
		t.Error(err)
	}
	<-time.After(50 * time.Millisecond)
	if helper == 0 || !runs(helper) {
		t.Error("who has the number of the group by now was killed")
	}
}

// While Kill uses the number of a child, the child is not reaped, so no other process can have the number.
func TestChildIsNotReapedWhileItIsKilled(t *testing.T) {
	t.Parallel()
	c, _ := startAs(t, "stay")
	h := c.hold.(*ownHold)
	h.mu.Lock()
	_ = unix.Kill(c.PID, unix.SIGKILL)
	until(t, "the child is dead", func() bool { return !runs(c.PID) })
	select {
	case <-c.Exited:
		t.Error("the child was reaped in the middle of Kill")
	case <-time.After(50 * time.Millisecond):
	}
	if err := unix.Kill(c.PID, 0); err != nil {
		t.Errorf("the number is free in the middle of Kill: %v", err)
	}
	h.mu.Unlock()
	mustEnd(t, c)
}

// A child that ends by itself while Kill runs is reaped nevertheless.
func TestKillMayMeetTheEnd(t *testing.T) {
	t.Parallel()
	for range 20 {
		c, _ := startAs(t, "exit")
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { _ = c.Kill() })
		}
		all.Wait()
		mustEnd(t, c)
	}
}

// If this process has no right to signal a child, Kill returns an error.
func TestKillSaysThatItMayNot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user for a moment")
	}
	c, _ := startAs(t, "stay")
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, because no other goroutine must get this thread
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			done <- errno
			return
		}
		done <- c.Kill()
	}()
	if err := <-done; !errors.Is(err, syscall.EPERM) {
		t.Errorf("Kill: %v", err)
	}
	if !runs(c.PID) {
		t.Error("it was killed")
	}
}
