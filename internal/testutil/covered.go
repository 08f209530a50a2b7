package testutil

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"testing"
)

// coveredEnv is a variable of the environment. The value "short" means that all tests of this tree have passed with -race and
// -short before: this run leaves out the tests that would do the same work again.
const coveredEnv = "MIDAIR_TEST_COVERED"

// ownWork are names: if a test uses one of them, it does other work in a run without -short or without -race.
var ownWork = []string{"Short", "raceDetector", "AllocsPerRun", "AlsoWithoutRace", "Sample"}

// everyRow makes Sample leave out nothing.
var everyRow = flag.Bool("midair.rows", false, "run each row of a table also with the race detector")

// sampled is the part of the rows of a table that runs with the race detector: one of so many.
const sampled = 4

// Sample leaves out rows of a long table of processes, which the race detector makes three times as slow: a run with the race
// detector has every fourth row, chosen by its name, and a run that leaves out what that run has covered has the others.
func Sample(t *testing.T) {
	if *everyRow || strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return
	}
	if why := outOfSample(t.Name(), raceEnabled, os.Getenv(coveredEnv)); why != "" {
		t.Skip(why)
	}
}

// outOfSample returns why the row is left out, if it is.
func outOfSample(row string, race bool, covered string) string {
	hash := fnv.New32a()
	hash.Write([]byte(row))
	inSample := hash.Sum32()%sampled == 0
	switch {
	case race && !inSample:
		return "runs without the race detector; with -midair.rows, here too"
	case !race && inSample && covered == "short":
		return "has passed with the race detector"
	}
	return ""
}

// AlsoWithoutRace marks a test that is to run without the race detector too, since events may come in another order at full
// speed. The call does nothing: leaveOutCovered looks for the name in the source of tests.
func AlsoWithoutRace() {}

// leaveOutCovered makes go test run only the tests of dir that do other work in a full run, if coveredEnv is "short". If a
// flag has selected tests already, leaveOutCovered does nothing.
func leaveOutCovered(dir string) error {
	if os.Getenv(coveredEnv) != "short" || given("test.run", "test.list", "test.fuzz") {
		return nil
	}
	names, err := withOwnWork(dir)
	if err != nil {
		return err
	}
	return flag.Set("test.run", "^("+strings.Join(names, "|")+")$")
}

// withOwnWork lists the tests in the test files of dir that use a name of ownWork, directly or by way of functions in these
// files.
func withOwnWork(dir string) (tests []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	uses := map[string][]string{} // for each function and method of these files: the names in its source
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), dir+"/"+e.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				uses[fn.Name.Name] = append(uses[fn.Name.Name], namesIn(fn)...)
			}
		}
	}
	own := slices.Clone(ownWork)
	for grown := true; grown; {
		grown = false
		for fn, names := range uses {
			if !slices.Contains(own, fn) && slices.ContainsFunc(names, func(n string) bool { return slices.Contains(own, n) }) {
				own, grown = append(own, fn), true
			}
		}
	}
	for _, fn := range own {
		if strings.HasPrefix(fn, "Test") {
			tests = append(tests, fn)
		}
	}
	slices.Sort(tests)
	return tests, nil
}

func namesIn(fn *ast.FuncDecl) (names []string) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id != fn.Name {
			names = append(names, id.Name)
		}
		return true
	})
	return names
}

// filtered reports whether flags of go test select some of the tests only.
func filtered() bool { return given("test.run", "test.skip", "test.list", "test.fuzz") }

// given reports whether one of the flags was given.
func given(names ...string) bool {
	for _, name := range names {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return true
		}
	}
	return false
}
