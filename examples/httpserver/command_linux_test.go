package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// asksEnv makes onTerminal the command asks, which a shell starts there.
const asksEnv = "SITE_TEST_ASKS"

// asks is a command with Supervise in its first line, which never serves: it asks for a name at the terminal.
func asks() int {
	if code, ok := upgrade.Supervise(upgrade.Options{}); ok {
		return code
	}
	fmt.Println("name?")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("hello " + line)
	return 3
}

func askCommand(exe string) string { return "MIDAIR_TEST_ROLE=terminal " + asksEnv + "=1 " + exe }

// What ends before it has served is a command like any other, although it runs as a child of its supervisor: it reads from the terminal,
// Ctrl-Z stops it, fg and bg go on with it, Ctrl-C ends it, and the shell gets its status.
func TestCommandHasTheTerminal(t *testing.T) {
	t.Parallel()
	term := startOnTerminal(t, "bash", "--norc", "-i")
	enter := func(line string) {
		t.Helper()
		if _, err := term.master.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := askCommand(exe)
	enter(command + "; echo 'status' $?\n")
	term.until(`name\?`)
	enter("Ada\n")
	term.until(`hello Ada`)
	term.until(`status 3`)

	enter("PS1='$ '; " + command + "\n")
	term.until(`(?s)status 3.*name\?`)
	enter("\x1a") // Ctrl-Z
	term.until(`Stopped`)
	enter("fg\nBob\n")
	term.until(`hello Bob`)

	enter(command + " & wait; echo back\n") // reads from the background
	term.until(`(?s)hello Bob.*Stopped`)
	enter("\nfg; echo 'ends' $?\n")
	enter("Eve\n")
	term.until(`hello Eve`)
	term.until(`ends 3`)

	enter(command + "; echo 'interrupted' $?\n")
	term.until(`(?s)hello Eve.*name\?`)
	enter("\x03") // Ctrl-C
	term.until(`interrupted 130`)
	enter("exit\n")
	term.WaitFamily(t, 0, patience)
}

// The terminal is also that of the other programs in a pipeline, a pager for instance: they are not stopped when they read from it.
func TestPagerHasTheTerminal(t *testing.T) {
	t.Parallel()
	term := startOnTerminal(t, "bash", "--norc", "-i")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		askCommand(exe) + " <>" + fifo + " | { read x; read y </dev/tty; echo \"pager $x $y\"; echo Ada >" + fifo + "; cat; }\n",
		"typed\n",
	} {
		if _, err := term.master.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	term.until(`pager name\? typed\r`)
	term.until(`hello Ada`)
	if _, err := term.master.WriteString("exit\n"); err != nil {
		t.Fatal(err)
	}
	term.WaitFamily(t, 0, patience)
}

// Where no shell could go on with a stopped program, Ctrl-Z does not stop it: there is no other way out. Ctrl-C ends it, and what was
// started beside it.
func TestCommandGoesOnWithoutJobControl(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	term := startOnTerminal(t, "dash", "-c", "for n in 1 2; do "+askCommand(exe)+"; echo ended $n $?; done")
	enter := func(text string) {
		t.Helper()
		if _, err := term.master.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	term.until(`name\?`)
	enter("\x1a") // Ctrl-Z
	enter("Ada\n")
	term.until(`ended 1 3`)
	term.until(`(?s)ended 1.*name\?`)
	enter("\x03") // Ctrl-C
	term.WaitFamily(t, 0, patience)
	if strings.Contains(term.text(), "ended 2") {
		t.Errorf("the script went on:\n%s", term.text())
	}
}

// Ctrl-Z gives the shell back while the service goes on answering; its supervisor goes on with bg.
func TestServiceGoesToTheBackground(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	term := startOnTerminal(t, "bash", "--norc", "-i")
	enter := func(line string) {
		t.Helper()
		if _, err := term.master.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	enter(strings.Join(withFiles(dir, build(t, "v1")), " ") + "; echo 'ended' $?\n")
	addr := term.until(`msg=serving addr=(\S+)`)
	term.until(`upgrade: supervisor: main generation`) // it has the terminal back by then, or in the next moment
	testutil.Until(t, patience, "Ctrl-Z stops the supervisor", func() bool {
		enter("\x1a")
		return strings.Contains(term.text(), "Stopped")
	})
	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	enter("\nbg\n")
	before := term.until(`msg="upgrade: serving" generation=1 \S+ pid=(\d+)`)
	enter("kill -HUP " + before + "\n")
	term.until(`msg="upgrade: serving" generation=2`)
	enter("kill %1; wait %1; echo 'stopped' $?\n")
	term.until(`stopped 0`)
	enter("exit\n")
	term.WaitFamily(t, 0, patience)
	left(t, dir)
}
