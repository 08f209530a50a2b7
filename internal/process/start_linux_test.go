package process_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/process"
)

// Kill ends the process, and all processes of its group that it has started.
func TestKillEndsTheGroup(t *testing.T) {
	s := shell(t, "sleep 60 & echo $! >&5; wait")
	pid, err := strconv.Atoi(s.line())
	if err != nil {
		t.Fatal(err)
	}
	h, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	s.Kill()
	await(t, "the end", s.Exited)
	ended := make(chan struct{})
	go func() { // ends with the process, or with its handle
		defer close(ended)
		_ = h.Wait()
	}()
	await(t, "the end of what it has started", ended)
	if s.Status != "signal: killed" || !h.Ended() {
		t.Errorf("status %q, what it has started has ended: %v", s.Status, h.Ended())
	}
}

// held calls Preflight with a Verify that accepts every program. So the program has its executable open.
func held(t testing.TB, path string, args ...string) process.Program {
	t.Helper()
	p, err := process.Preflight(path, args, process.Policy{Verify: func(string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// The file that was verified is started, even if the file was removed or replaced after Verify. This also holds for a script.
func TestVerifiedFileIsStartedWhateverBecomesOfItsName(t *testing.T) {
	for name, content := range map[string]string{"script": "#!/bin/sh\necho old >&5\n", "program": ""} {
		for _, replace := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), name)
			if content == "" {
				copyFile(t, "/bin/sh", path, "")
			} else {
				writeProgram(t, path, content)
			}
			p := held(t, path, "-c", "echo old >&5")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if replace {
				writeProgram(t, path, "#!/bin/sh\necho new >&5\n")
			}
			if got := start(t, p, os.Environ()).line(); got != "old" {
				t.Errorf("%s, replaced %v: %q", name, replace, got)
			}
		}
	}
}

// A process that was started from a descriptor has a number as its name at first. After Scrub it has the name of its program.
func TestNameOfAProcessIsRestored(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, held(t, self), roleEnviron()).report()
	want := filepath.Base(self)[:min(15, len(filepath.Base(self)))]
	if _, err := strconv.Atoi(r.Name[0]); err != nil || r.Name[1] != want {
		t.Errorf("it is called %q and then %q, want a number and then %q", r.Name[0], r.Name[1], want)
	}
	r = start(t, ownProgram(t), roleEnviron()).report()
	if r.Name[0] != want || r.Name[1] != want {
		t.Errorf("started from its file it is called %q and then %q, want %q", r.Name[0], r.Name[1], want)
	}
}

// The error about too many listeners has the right number of listeners: the file of the executable does not count.
func TestNumberOfListenersIsThatOfListeners(t *testing.T) {
	files := slices.Repeat([]process.Inherited{{Name: [3]string{"listener", "unix", "/" + strings.Repeat("x", 90)}}}, 400)
	if c, err := process.Start(held(t, "/bin/sh", "-c", "exit 0"), nil, files, nil); c != nil || err == nil || !strings.Contains(err.Error(), "the names of 400 listeners ") {
		t.Errorf("%v, %v", c, err)
	}
}

// A file that is open for writing is not started, and the error says what an operator can do.
func TestFileThatIsBeingWrittenIsNotStarted(t *testing.T) {
	path := copyFile(t, "/bin/sh", filepath.Join(t.TempDir(), "sh"), "")
	p := preflight(t, path, "-c", "exit 0")
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if c, err := process.Start(p, nil, nil, nil); c != nil || !errors.Is(err, syscall.ETXTBSY) || !strings.Contains(err.Error(), "write a new one and rename it") {
		t.Errorf("%v, %v", c, err)
	}
}

// The variable of tableflip is in the environment of a child exactly once, even if the given environment has the variable
// already.
func TestSentinelIsThereOnce(t *testing.T) {
	p := preflight(t, "/bin/sh", "-c", "echo up >&5; sleep 60")
	s := start(t, p, append(os.Environ(), process.Sentinel+"=no", process.Sentinel+"=yes", process.Sentinel+"X=kept"))
	s.line()
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.PID))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for v := range strings.SplitSeq(string(env), "\x00") {
		if strings.HasPrefix(v, process.Sentinel) {
			got = append(got, v)
		}
	}
	if want := []string{process.Sentinel + "X=kept", process.Sentinel + "=yes"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
