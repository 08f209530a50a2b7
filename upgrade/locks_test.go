package upgrade_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mutexes returns the mutexes that are fields of structs of a package, each with the name of its struct.
func mutexes(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range fieldsOf(s) {
					names = append(names, spec.Name.Name+"."+f)
				}
			}
			return true
		})
	}
	return names
}

// fieldsOf returns the names of the mutexes among the fields of a struct.
func fieldsOf(s *ast.StructType) (names []string) {
	for _, f := range s.Fields.List {
		kind, ok := f.Type.(*ast.SelectorExpr)
		if !ok || kind.Sel.Name != "Mutex" && kind.Sel.Name != "RWMutex" {
			continue
		}
		if len(f.Names) == 0 {
			names = append(names, kind.Sel.Name)
		}
		for _, name := range f.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// Every mutex of this package and of its internal packages has its place in the order of the locks, in parts.go, and every lock
// that is named there exists.
func TestLocksHaveAnOrder(t *testing.T) {
	have := mutexes(t, ".")
	for _, p := range []string{"broadcast", "handoff", "listener", "pidfile", "sdnotify", "state", "supervisor", "wire"} {
		for _, name := range mutexes(t, filepath.Join("internal", p)) {
			have = append(have, p+"."+name)
		}
	}
	b, err := os.ReadFile("parts.go")
	if err != nil {
		t.Fatal(err)
	}
	_, order, ok := strings.Cut(string(b), "// The locks of this package")
	if !ok {
		t.Fatal("parts.go does not describe the locks")
	}
	lock := regexp.MustCompile(`\b\w+(\.\w+)+\b`)
	var named []string
	for line := range strings.Lines(order) {
		if strings.HasPrefix(line, "//\t") { // a line of the table
			named = append(named, lock.FindAllString(line, -1)...)
		}
	}
	have = append(have, "process.Child.queue", "wire.Link.turn") // of another package, and a channel
	slices.Sort(have)
	slices.Sort(named)
	if !slices.Equal(have, named) {
		t.Errorf("there are the locks\n%s\nand parts.go has the locks\n%s", strings.Join(have, "\n"), strings.Join(named, "\n"))
	}
}
