//go:build unix

package killswitch

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/statefile"
	"github.com/midair-go/midair/internal/testutil"
)

// setterRole sets the names NAME0 to NAME9 in turn, TIMES times in all, and says what was acknowledged. With CLEARS it clears the
// names instead.
func setterRole() int {
	times, err := strconv.Atoi(os.Getenv("TIMES"))
	if err != nil {
		return 2
	}
	e, path := new(Entries), os.Getenv("FILE")
	e.Start(Options{Package: "flags", Name: "shop", File: path, Logger: slog.New(slog.DiscardHandler)})
	e.file = statefile.File{Path: path, LockWait: patience, Step: testutil.Fault}
	for i := range times {
		name := fmt.Sprint(os.Getenv("NAME"), i%10)
		if os.Getenv("CLEARS") != "" {
			_ = e.Clear(name, "mended") // the error is that another process has set the name
		} else if err := e.Set(name, Entry{Value: strconv.Itoa(i)}); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("acknowledged", i)
	}
	return 0
}

func setter(t *testing.T, path, name string, times int, env ...string) *testutil.Proc {
	return testutil.Start(t, "setter", testutil.Cfg{Env: append(env, "FILE="+path, "NAME="+name, "TIMES="+strconv.Itoa(times))})
}

// inFile is what a process finds in the file that starts now.
func inFile(t *testing.T, path string) map[string]string {
	t.Helper()
	e, all := openEntries(t, path, nil), map[string]string{}
	if st := e.Status(); st.FileError != "" {
		t.Fatalf("%+v", st)
	}
	for name, en := range e.InForce(time.Now()) {
		all[name] = en.Value
	}
	return all
}

// Processes that set and clear in the same file at once lose nothing of each other: the last value of each name is there, and
// what is cleared is none of the names that others set.
func TestProcessesLoseNoEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	const times = 60
	want := map[string]string{}
	all := []*testutil.Proc{setter(t, path, "c", times, "CLEARS=1"), setter(t, path, "a", times), setter(t, path, "b", times)}
	for i := range times {
		want[fmt.Sprint("a", i%10)], want[fmt.Sprint("b", i%10)] = strconv.Itoa(i), strconv.Itoa(i)
	}
	for _, p := range all {
		if code, err := p.Wait(patience); code != 0 || err != nil {
			t.Fatalf("exit %d, %v: %s", code, err, p.Output())
		}
	}
	if got := inFile(t, path); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// A process that dies between any two steps of a write leaves a file that another process, which is there all the time, goes on
// with: the file has the entry or not, what was there before stays, and what is cleared later stays cleared.
func TestEntriesAfterDeathAtEachStep(t *testing.T) {
	for _, step := range []struct {
		name    string
		written bool
	}{{"locked", false}, {"created", false}, {"written", false}, {"synced", false}, {"renamed", true}} {
		path := filepath.Join(t.TempDir(), "overrides")
		e := openEntries(t, path, nil)
		must(t, e.Set("before", Entry{Value: "on"}))
		for _, clears := range []string{"", "1"} {
			p := setter(t, path, "dying", 1, "CLEARS="+clears, testutil.FaultEnv(testutil.FaultSpec(step.name, "kill", "")))
			if code, err := p.Wait(patience); code != 128+9 || err != nil {
				t.Fatalf("%s: exit %d, %v: %s", step.name, code, err, p.Output())
			}
			_, found := inFile(t, path)["dying0"]
			if want := step.written && clears == ""; found != want {
				t.Errorf("killed after %s, clears %q: found %t, want %t", step.name, clears, found, want)
			}
			must(t, e.Set("after", Entry{Value: clears}))
			if got := inFile(t, path); got["before"] != "on" || got["after"] != clears {
				t.Errorf("killed after %s: %v", step.name, got)
			}
			wantText(t, step.name, openEntries(t, path, nil), e.text())
		}
	}
}

// A process that is killed at any moment has every entry in the file that was acknowledged to it.
func TestAcknowledgedEntriesOutliveKill9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	for range rounds(10, 3) {
		p := setter(t, path, "a", 1<<30)
		p.WaitOutput(patience, "acknowledged 2")
		p.Kill()
		lines := strings.Count(p.Output(), "\n") // of whole lines
		got := inFile(t, path)
		for i := max(0, lines-10); i < lines; i++ {
			value, err := strconv.Atoi(got[fmt.Sprint("a", i%10)])
			if err != nil || value != i && value != lines { // the process may have written one more
				t.Errorf("%d entries were acknowledged, and the file has %v", lines, got)
			}
		}
		e := openEntries(t, path, nil)
		for name := range got {
			must(t, e.Clear(name, "the next one"))
		}
		if got := inFile(t, path); len(got) > 0 {
			t.Errorf("%v after everything was cleared", got)
		}
	}
}
