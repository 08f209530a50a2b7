package subprocess_test

import (
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

// Options that are wrong are errors that name the option, its value, and what to do.
func TestWrongOptionsAreErrors(t *testing.T) {
	cmd := program("serve")
	for _, row := range []struct {
		o    subprocess.Options
		want string
	}{
		{subprocess.Options{}, "no Cmd: give a function"},
		{subprocess.Options{Cmd: cmd, Name: "../x"}, `Name is "../x": choose 1 to 32 letters`},
		{subprocess.Options{Cmd: cmd, Name: ".x"}, `Name is ".x"`},
		{subprocess.Options{Cmd: cmd, Name: "a~b"}, `Name is "a~b"`},
		{subprocess.Options{Cmd: cmd, Name: strings.Repeat("x", 33)}, `Name is "xxx`},
		{subprocess.Options{Cmd: cmd, StartTimeout: -1}, "StartTimeout is -1ns: choose a time above 0"},
		{subprocess.Options{Cmd: cmd, Silence: -1}, "Silence is -1ns"},
		{subprocess.Options{Cmd: cmd, Drain: -1}, "Drain is -1ns"},
		{subprocess.Options{Cmd: cmd, Pause: -1}, "Pause is -1ns"},
	} {
		h, err := subprocess.Start(t.Context(), own(t, &row.o))
		if err == nil {
			h.Close()
			t.Errorf("%+v was taken", row.o)
		} else if !strings.HasPrefix(err.Error(), "subprocess: "+row.want) {
			t.Errorf("%v, want %s", err, row.want)
		}
	}
}

// Without Dir, the directory of the service that systemd has made is used, and else one for temporary files.
func TestDefaultDirIsThatOfTheService(t *testing.T) {
	for _, name := range []string{"RUNTIME_DIRECTORY", "TMPDIR"} {
		dir := shortDir(t)
		t.Setenv("RUNTIME_DIRECTORY", "")
		t.Setenv(name, dir)
		if name == "RUNTIME_DIRECTORY" {
			t.Setenv(name, dir+":/run/other")
		}
		h, err := subprocess.Start(t.Context(), subprocess.Options{Cmd: program("serve"), Logger: new(logbook).logger()})
		if err != nil {
			t.Fatal(err)
		}
		found, _ := filepath.Glob(dir + "/midair*/canary~*/http")
		h.Close()
		if len(found) != 1 {
			t.Errorf("%s: %q", name, found)
		}
	}
}

// The status and the log say what happens to the process, step by step.
func TestStatusAndLogFollowTheProcess(t *testing.T) {
	t.Parallel()
	log, mark := new(logbook), filepath.Join(t.TempDir(), "mark")
	before := time.Now()
	h := started(t, subprocess.Options{Name: "cart-v2", Cmd: program("slow"), Logger: log.logger(), Drain: patience})
	first := h.Status()
	if first.Name != "cart-v2" || first.PID == 0 || first.Starts != 1 || first.Failures != 0 || first.Reason != "" || first.InFlight != 0 || first.Since.Before(before) || first.Since.After(time.Now()) {
		t.Errorf("after Start: %+v", first)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	answer := make(chan string, 1)
	go func() { answer <- get(srv.URL + "?until=" + mark) }() // ends with the mark
	testutil.Until(t, patience, "a request", func() bool { return exists(mark + ".begun") })
	if n := h.Status().InFlight; n != 1 {
		t.Errorf("%d requests are in flight", n)
	}
	writeMark(mark)
	<-answer
	testutil.Until(t, patience, "no request", func() bool { return h.Status().InFlight == 0 })
	if err := h.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := h.Status()
	if second.PID == first.PID || second.Starts != 2 || second.Failures != 0 || !second.Since.After(first.Since) {
		t.Errorf("after Replace: %+v", second)
	}
	_ = syscall.Kill(second.PID, syscall.SIGKILL)
	next(t, h, second.PID)
	third := h.Status()
	if third.Starts != 3 || third.Failures != 1 || third.Reason != "signal: killed" {
		t.Errorf("after a kill: %+v", third)
	}
	h.Close()
	last := h.Status()
	if last.PID != 0 || last.InFlight != 0 || last.Failures != 1 || !last.Since.After(third.Since) {
		t.Errorf("after Close: %+v", last)
	}
	wantLines(t, log, 6,
		`INFO msg="subprocess: a process serves" name=cart-v2 pid=\d+`,
		`INFO msg="subprocess: a process was stopped" name=cart-v2 pid=\d+ how="exit status 0"`,
		`ERROR msg="subprocess: the process has ended" name=cart-v2 pid=\d+ reason="signal: killed" restart_in=0s`,
	)
}

// wantLines waits for n lines of a log, each of which is one of the wanted, and each of the wanted is there.
func wantLines(t testing.TB, log *logbook, n int, wanted ...string) {
	t.Helper()
	testutil.Within(patience, func() bool { return strings.Count(log.String(), "\n") >= n })
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != n {
		t.Errorf("%d lines, want %d:\n%s", len(lines), n, log)
	}
	found := map[string]bool{}
	for _, line := range lines {
		known := false
		for _, want := range wanted {
			if ok, _ := regexp.MatchString(want+"$", line); ok {
				known, found[want] = true, true
			}
		}
		if !known {
			t.Errorf("the line %s", line)
		}
	}
	for _, want := range wanted {
		if !found[want] {
			t.Errorf("no line %s", want)
		}
	}
}
