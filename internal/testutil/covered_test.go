package testutil

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const coveredFiles = `package x

import "testing"

func TestSame(t *testing.T) { help() }

func TestLonger(t *testing.T) {
	if testing.Short() {
		return
	}
}

func TestByHelper(t *testing.T) { s := start(t); s.many() }

func TestWithoutRace(t *testing.T) { testutil.AlsoWithoutRace() }

func TestSpeed(t *testing.T) { _ = raceDetector() }

func help() {}

type server struct{}

func (server) many() { rounds() }

func rounds() int {
	if testing.Short() {
		return 1
	}
	return 2
}

func start(t *testing.T) server { return server{} }
`

// A full run after a short one has the tests whose work depends on -short or on the race detector, themselves or by a
// helper, and no others.
func TestCoveredTestsAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	err := errors.Join(os.WriteFile(filepath.Join(dir, "x_test.go"), []byte(coveredFiles), 0o600),
		os.WriteFile(filepath.Join(dir, "x.go"), []byte("package x; func TestInCode() { testing.Short() }"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	got, err := withOwnWork(dir)
	if want := []string{"TestByHelper", "TestLonger", "TestSpeed", "TestWithoutRace"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// Whoever chooses the tests by a flag gets those, and without the variable all are run.
func TestNothingIsLeftOutUnasked(t *testing.T) {
	run := flag.Lookup("test.run")
	was := run.Value.String()
	defer func() { _ = run.Value.Set(was) }()
	for _, c := range []struct{ env, run, want string }{
		{"", "", ""}, {"long", "", ""}, {"short", "TestX", "TestX"}, {"short", "", "^(TestLonger)$"},
	} {
		t.Setenv(coveredEnv, c.env)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "y_test.go"), []byte("package x; func TestLonger() { testing.Short() }; func TestZ() {}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run.Value.Set(c.run); err != nil {
			t.Fatal(err)
		}
		err := leaveOutCovered(dir)
		if got := run.Value.String(); err != nil || got != c.want {
			t.Errorf("%+v: runs %q, %v", c, got, err)
		}
	}
}

// Of a table each row is run by one of the two steps, and the smaller part with the race detector. A run that nothing came before has
// all rows.
func TestEachRowRunsOnce(t *testing.T) {
	const rows = 1000
	withRace := 0
	for n := range rows {
		row := fmt.Sprint("TestOfATable/row_", n)
		race := outOfSample(row, true, "") == ""
		if rest := outOfSample(row, false, "short") == ""; race == rest {
			t.Errorf("%s: with the race detector %v, in the other step %v", row, race, rest)
		}
		if why := outOfSample(row, false, ""); why != "" {
			t.Errorf("%s in a run of its own: %s", row, why)
		}
		if race {
			withRace++
		}
	}
	if withRace < rows/8 || withRace > rows/2 {
		t.Errorf("%d of %d rows have the race detector", withRace, rows)
	}
}
