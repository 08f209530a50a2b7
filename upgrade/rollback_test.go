//go:build linux

package upgrade_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// release makes a build of its own, told by its last bytes, the service's next executable: a file and not a link.
func (r *running) release(build string) {
	r.t.Helper()
	tmp := filepath.Join(r.dir, "exe.new")
	if err := errors.Join(copyBuild(testBinary(r.t), tmp, build), os.Rename(tmp, filepath.Join(r.dir, "exe"))); err != nil {
		r.t.Fatal(err)
	}
}

const buildMark = "\nbuild "

func copyBuild(from, to, build string) error {
	// A process that another test forks meanwhile would have the file open for writing until its exec: text file busy.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		_, err = io.WriteString(dst, fmt.Sprintf("%s%10s", buildMark, build))
	}
	return errors.Join(err, dst.Close())
}

// buildOf tells which build a process runs.
func buildOf(t *testing.T, pid int) string {
	t.Helper()
	tail, err := markOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	build, ok := strings.CutPrefix(tail, buildMark)
	if !ok {
		return "original"
	}
	return strings.TrimSpace(build)
}

// markOf reads the last bytes of what a process runs.
func markOf(pid int) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", err
	}
	defer f.Close()
	tail := make([]byte, len(buildMark)+10)
	info, err := f.Stat()
	if err == nil {
		_, err = f.ReadAt(tail, info.Size()-int64(len(tail)))
	}
	return string(tail), err
}

func (r *running) mustRun(build string) {
	r.t.Helper()
	if got := buildOf(r.t, r.mainPID()); got != build {
		r.t.Fatalf("build %q serves, want %q", got, build)
	}
}

func (r *running) rollback() {
	r.t.Helper()
	if a := r.ask("POST", "/rollback"); !a.Committed {
		r.t.Fatalf("rollback: %s", a.Error)
	}
}

// A rollback runs the build that was committed before, whatever has become of its file, and another one goes forward
// again. Nobody loses a request, and what is kept is kept.
func TestRollbackGoesBackAndForthUnderLoad(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	l := r.load(smallLoad)
	r.release("good")
	r.upgrade()
	good := r.arguments()
	r.release("bad") // the file of the good one has gone with it
	r.upgrade()
	r.mustRun("bad")
	exe := filepath.Join(r.dir, "exe")
	for n := range 20 {
		switch n % 4 {
		case 0:
			r.write(exe, "#!/bin/false\n")
		case 1:
			r.remove(exe)
		}
		r.rollback()
		want := []string{"good", "bad"}[n%2]
		r.mustRun(want)
		if now := r.arguments(); !slices.Equal(now, good) {
			t.Fatalf("after rollback %d the arguments are %q, were %q", n+1, now, good)
		}
	}
	if st := r.ask("GET", "/status").Status; st.Generation != 23 || st.Previous == nil {
		t.Errorf("after 2 upgrades and 20 rollbacks the status is %+v", st)
	}
	testutil.Until(t, patience, "the last generation answers", func() bool { return l.Seen("g23") })
	a := r.account(l)
	t.Log(a)
	a.MustBeClean(t)
	r.WaitFamily(t, 1, patience)
}

func (r *running) write(path, content string) {
	r.t.Helper()
	r.remove(path)
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) remove(path string) {
	r.t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
}

// arguments are those of the main process.
func (r *running) arguments() []string {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.mainPID()))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Split(string(b), "\x00")
}

// A restart of the bad build does not make it the one to go back to.
func TestRestartKeepsTheWayBack(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	r.release("good")
	r.upgrade()
	r.release("bad")
	r.upgrade()
	for range 2 {
		r.upgrade() // nobody has changed the file
	}
	r.release("bad") // the same again, in another file
	r.upgrade()
	r.rollback()
	r.mustRun("good")
}

// A process that was started from a descriptor is called by its program's name, as pgrep and ps find it.
func TestRollbackKeepsTheName(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	name := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", r.mainPID()))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	r.release("good")
	r.upgrade()
	want := name()
	r.release("bad")
	r.upgrade()
	r.rollback()
	if got := name(); got != want {
		t.Errorf("the process is called %q, want %q", got, want)
	}
}

// What brings the good build back does not ask the judges of the bad one, nor soak.
func TestRollbackAsksNoJudge(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bake, s.Smoke = "ok", "ok" })
	r.release("bad")
	r.upgrade()
	r.change(func(s *settings) { s.Bake, s.Smoke, s.Soak = "error", "error", time.Hour })
	r.mustFail("smoke", "smoke test")
	r.rollback()
}

// A first generation has nothing to go back to, and says so; so has one whose predecessor did not use the package.
func TestRollbackWithoutAnEarlierBuildIsRefused(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	if a := r.ask("POST", "/rollback"); !a.NotReady || !strings.Contains(a.Error, "no earlier build") {
		t.Errorf("rollback of the first generation: %+v", a)
	}
	plain := startService(t, func(s *settings) { s.Plain = true })
	plain.change(func(s *settings) { s.Plain = false })
	plain.signalMain(syscall.SIGHUP)
	testutil.Until(t, patience, "the library serves", func() bool {
		a, err := plain.tryAsk(t.Context(), "GET", "/status")
		return err == nil && a.Status.State == "serving"
	})
	if a := plain.ask("POST", "/rollback"); !a.NotReady {
		t.Errorf("rollback to tableflip: %+v", a)
	}
}

// A rollback that fails leaves what runs, and may be tried again.
func TestFailedRollbackLeavesWhatRuns(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	l := r.load(smallLoad)
	r.release("good")
	r.upgrade()
	r.release("bad")
	r.upgrade()
	r.change(func(s *settings) { s.Bad = "refuse-always" })
	if a := r.ask("POST", "/rollback"); a.Committed || a.Phase != "check" || !strings.Contains(a.Reason, `keep "value" refuses`) {
		t.Errorf("rollback to a build that cannot read what is kept: %+v", a)
	}
	r.mustRun("bad")
	r.change(func(s *settings) { s.Bad = "" })
	r.rollback()
	r.mustRun("good")
	r.account(l).MustBeClean(t)
}
