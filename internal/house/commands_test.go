package house_test

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tests are the functions and the flags of the tests of some packages.
type tests struct {
	functions []string
	flags     map[string]bool
}

var (
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Example|Fuzz)\w*)\(`)
	testFlag     = regexp.MustCompile(`flag\.\w+\("([^"]+)"`)
)

// A reader of command lines has read the tests of packages, by the pattern that names them.
type reader struct {
	known map[string]tests
	last  tests // those of the last command line of the page
	count int
}

// look says what is wrong with a command line with go test, or with a -run that the text has after one.
func (r *reader) look(t *testing.T, command string) string {
	words := strings.Fields(command)
	i := slices.Index(words, "test")
	switch {
	case i > 0 && words[i-1] == "go" && len(words) > i+1:
		words = words[i+1:]
		r.last = r.testsOf(t, words)
	case len(words) > 1 && words[0] == "-run" && r.last.functions != nil:
	default:
		return ""
	}
	r.count++
	return r.last.complain(words)
}

// testsOf are the tests of all packages that the words name.
func (r *reader) testsOf(t *testing.T, words []string) tests {
	all := tests{flags: map[string]bool{}}
	for _, w := range words {
		if !strings.HasPrefix(w, ".") {
			continue
		}
		if _, ok := r.known[w]; !ok {
			r.known[w] = testsOf(t, w)
		}
		all.functions = append(all.functions, r.known[w].functions...)
		maps.Copy(all.flags, r.known[w].flags)
	}
	return all
}

// testsOf reads the tests of a package, or with /... of those below it too.
func testsOf(t *testing.T, pattern string) tests {
	t.Helper()
	found := tests{flags: map[string]bool{}}
	dir, below := strings.CutSuffix(pattern, "/...")
	dir = filepath.Join("..", "..", filepath.FromSlash(dir))
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != dir && !below:
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(name)
		for _, m := range testFunction.FindAllStringSubmatch(string(b), -1) {
			found.functions = append(found.functions, m[1])
		}
		for _, m := range testFlag.FindAllStringSubmatch(string(b), -1) {
			found.flags[m[1]] = true
		}
		return err
	})
	if err != nil || len(found.functions) == 0 {
		t.Errorf("%s has no tests: %v", pattern, err)
	}
	return found
}

// complain says what is wrong with the arguments of go test, if something is.
func (f tests) complain(words []string) string {
	for i, w := range words {
		if !strings.HasPrefix(w, "-") {
			continue
		}
		if reason := f.complainOf(w, slices.Concat(words, []string{""})[i+1]); reason != "" {
			return reason
		}
	}
	return ""
}

// complainOf says what is wrong with a flag of go test; value is the word after it.
func (f tests) complainOf(word, value string) string {
	name, attached, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	switch {
	case name == "run":
		if attached != "" {
			value = attached
		}
		for _, part := range strings.Split(strings.Trim(value, `'"`), "|") {
			re, err := regexp.Compile(part)
			if err != nil || part == "" || !slices.ContainsFunc(f.functions, re.MatchString) {
				return "no test matches " + part
			}
		}
	case strings.HasPrefix(name, "midair"):
		if !f.flags[name] {
			return "there is no flag " + word
		}
	case !slices.Contains([]string{"v", "race", "short", "count", "timeout", "shuffle", "bench", "benchtime", "skip", "cpu"}, name):
		return "go test has no flag " + word
	}
	return ""
}

// Each command line with go test, and each -run beside one, names packages, tests and flags that exist.
func TestTestsOfPagesExist(t *testing.T) {
	r := reader{known: map[string]tests{}}
	for _, p := range pages(t) {
		r.last = tests{}
		for _, command := range p.commands() {
			for _, part := range strings.Split(command, "&&") {
				if reason := r.look(t, part); reason != "" {
					t.Errorf("%s: %s: %s", p.name, command, reason)
				}
			}
		}
	}
	if r.count < 30 {
		t.Errorf("only %d command lines were looked at", r.count)
	}
}

// Files that bash runs are there, and go doc finds what it is asked for.
func TestScriptsOfPagesExist(t *testing.T) {
	t.Parallel()
	for _, p := range pages(t) {
		for _, command := range p.commands() {
			words := strings.Fields(command)
			var err error
			switch {
			case len(words) == 2 && words[0] == "bash":
				_, err = os.Stat(filepath.Join("..", "..", words[1]))
			case len(words) == 3 && words[0] == "go" && words[1] == "doc":
				cmd := exec.Command("go", words[1:]...)
				cmd.Env = append(os.Environ(), "GOWORK=off") // in a workspace, go doc adds to go.work.sum
				err = cmd.Run()
			}
			if err != nil {
				t.Errorf("%s: %s: %v", p.name, command, err)
			}
		}
	}
}

// Each command line of the example's program has subcommands and flags that the program has.
func TestFlagsOfPagesExist(t *testing.T) {
	t.Parallel()
	exe, usage, count := filepath.Join(t.TempDir(), "httpserver"), map[string]string{}, 0
	if out, err := exec.Command("go", "build", "-o", exe, "../../examples/httpserver").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, sub := range []string{"", "demo", "upgrade"} {
		out, err := exec.Command(exe, strings.Fields(sub+" -h")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s -h: %v\n%s", sub, err, out)
		}
		usage[sub] = string(out)
	}
	for _, p := range pages(t) {
		for _, command := range p.commands() {
			sub, words := arguments(command)
			count += len(words)
			for _, w := range words {
				if strings.HasPrefix(w, "-") && !regexp.MustCompile(`(?m)^  `+regexp.QuoteMeta(w)+`( |$)`).MatchString(usage[sub]) {
					t.Errorf("%s: %s: httpserver %s has no flag %s", p.name, command, sub, w)
				}
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d words were looked at", count)
	}
}

// arguments returns the subcommand and the other arguments with which a command line starts the example's program.
func arguments(command string) (sub string, words []string) {
	words = strings.Fields(command)
	i := slices.IndexFunc(words, func(w string) bool { return path.Base(w) == "httpserver" || path.Base(w) == "ctl" })
	if i < 0 || words[0] == "cp" || slices.Contains(words, "test") {
		return "", nil
	}
	words = words[i+1:]
	if len(words) > 0 && (words[0] == "demo" || words[0] == "upgrade") {
		sub, words = words[0], words[1:]
	}
	if end := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w, "&><|;") }); end >= 0 {
		words = words[:end]
	}
	return sub, words
}
