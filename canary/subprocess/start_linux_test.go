package subprocess_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	plugin "github.com/hashicorp/go-plugin"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

func init() {
	programs["sleeps"] = func() { time.Sleep(time.Hour) }
	programs["says"] = func() {
		fmt.Println(os.Args[2])
		time.Sleep(time.Hour)
	}
	programs["exits"] = func() { os.Exit(7) }
	programs["stranger"] = func() {
		plugin.Serve(&plugin.ServeConfig{HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: 1, MagicCookieKey: "OTHER", MagicCookieValue: "other",
		}})
	}
	programs["once"] = func() { // serves at the first start only
		f, err := os.OpenFile(os.Args[2], os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			os.Exit(8)
		}
		f.Close()
		serve(http.HandlerFunc(handle))
	}
}

// writeFile writes a file for a test, and returns its path.
func writeFile(t testing.TB, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// command returns a Cmd that starts the program at a path.
func command(path string, args ...string) func() *exec.Cmd {
	return func() *exec.Cmd { return exec.Command(path, args...) }
}

// A program that does not serve is an error that names the program, its process, and what to do. Nothing is left of it.
func TestProgramThatDoesNotServeIsAnError(t *testing.T) {
	t.Parallel()
	null := silent(t)
	const process = `process \d+ \(`
	for _, row := range []struct {
		name string
		cmd  func() *exec.Cmd
		want string // a regular expression
	}{
		{"sleeps", program("sleeps"), process + `.*subprocess.*\): not ready within the StartTimeout of 2s`},
		{"garbage", program("says", "hello"), process + `.*does not answer as a program that calls subprocess.Serve, and writes nothing .*: .*hello`},
		{"other version", program("says", "1|99|unix|/x|grpc|"), process + `.*does not answer as .*Plugin version: 99, Client versions: \[1\]`},
		{"other protocol", program("says", "1|1|unix|/x|netrpc|"), process + `.*does not answer as .*netrpc`},
		{"tcp", program("says", "1|1|tcp|127.0.0.1:1|grpc|"), process + `.*does not answer as `},
		{"exits", program("exits"), process + `.*has ended before it served: exit status 7 \(does its main call subprocess.Serve`},
		{"other cookie", commandTo(t, null, "stranger"), process + `.*has ended before it served: exit status 1`},
		{"script", command(writeFile(t, "script", "#!/bin/sh\nsleep 5 &\nexit 9\n", 0o700)), process + `.*script\) has ended before it served: exit status 9`},
		{"not executable", command(writeFile(t, "data", "data", 0o600)), `start .*/data: .*permission denied: is the file executable`},
		{"no program", command(writeFile(t, "text", "data", 0o700)), `start .*/text: .*exec format error`},
		{"missing", command("/no/such/program"), `start /no/such/program: .*no such file`},
		{"no interpreter", command(writeFile(t, "script", "#!/no/such/shell\n", 0o700)), `start .*/script: .*no such file.*: the file exists, but not the interpreter`},
		{"no directory", func() *exec.Cmd { return &exec.Cmd{Path: "/bin/true", Dir: "/no/such/dir"} }, `start /bin/true: the Dir of the command is "/no/such/dir"`},
		{"not in PATH", command("no-such-program"), `no-such-program.*not found`},
		{"directory", command("/etc"), `start /etc: .*permission denied`},
		{"no arguments", func() *exec.Cmd { return &exec.Cmd{Path: "/no/such/program"} }, `/no/such/program`},
		{"empty", func() *exec.Cmd { return &exec.Cmd{} }, `no command`},
		{"nil", func() *exec.Cmd { return nil }, `Cmd has returned nil: return a new command`},
		{"panic", func() *exec.Cmd { panic("ouch") }, `Cmd: panic: ouch`},
		{"stdin", func() *exec.Cmd { return &exec.Cmd{Path: "/x", Stdin: os.Stdin} }, `leave them nil`},
		{"stderr", func() *exec.Cmd { return &exec.Cmd{Path: "/x", Stderr: new(bytes.Buffer)} }, `Stderr of the command is a \*bytes.Buffer: pass an \*os.File`},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := subprocess.Options{Cmd: row.cmd, StartTimeout: 2 * time.Second}
			h, err := subprocess.Start(t.Context(), own(t, &o))
			if err == nil {
				h.Close()
				t.Fatal("Start has returned no error")
			}
			if ok, _ := regexp.MatchString("(?s)^subprocess: .*"+row.want, err.Error()); !ok || strings.Count(err.Error(), "subprocess: ") != 1 {
				t.Errorf("%v\nwant %s", err, row.want)
			}
		})
	}
}

// A context that ends, ends the start of a process.
func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	o := subprocess.Options{Cmd: program("sleeps")}
	o = own(t, &o)
	ctx, cancel := contextThatEndsWhen(t, func() bool { return len(processesOf(o.Dir)) > 0 })
	defer cancel()
	if h, err := subprocess.Start(ctx, o); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("%v, %v", h, err)
	}
}

var logged = regexp.MustCompile(`time=(\S+) .*msg="subprocess: the process does not start"`)

// Between starts that fail there are pauses, each twice as long as the one before, up to Pause.
func TestPausesBetweenStartsGrowToPause(t *testing.T) {
	t.Parallel()
	log := new(logbook)
	h := started(t, subprocess.Options{
		Cmd: program("once", filepath.Join(t.TempDir(), "mark")), Logger: log.logger(), Pause: 300 * time.Millisecond,
	})
	_ = syscall.Kill(h.Status().PID, syscall.SIGKILL)
	const n = 6
	testutil.Until(t, patience, "failures", func() bool { return h.Status().Failures >= n })
	h.Close()
	var last time.Time
	lines := logged.FindAllStringSubmatch(log.String(), -1)
	if len(lines) < n-2 {
		t.Fatalf("%d starts are in the log:\n%s", len(lines), log)
	}
	for i, m := range lines {
		at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", m[1])
		if err != nil {
			t.Fatal(err)
		}
		want := min(100*time.Millisecond<<max(i-1, 0), 300*time.Millisecond)
		if i > 0 && at.Sub(last) < want-2*time.Millisecond {
			t.Errorf("start %d has come %v after the one before, want at least %v", i, at.Sub(last), want)
		}
		last = at
	}
	if st := h.Status(); st.PID != 0 || st.Starts != 1 || !strings.Contains(st.Reason, "exit status 8") {
		t.Errorf("the status is %+v", st)
	}
}

// A process that has lived long enough begins a new row: it is started again at once, however many have ended before.
func TestLongLifeBeginsANewRow(t *testing.T) {
	t.Parallel()
	o := subprocess.Options{Cmd: program("serve"), Pause: time.Hour}
	o.SetGuard(1)
	h := started(t, o)
	pid := 0
	for range 11 { // the last pause of one row would be more than 50 seconds
		pid = next(t, h, pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	next(t, h, pid)
	if got := strconv.Itoa(int(h.Status().Failures)); got != "11" {
		t.Errorf("%s failures", got)
	}
}
