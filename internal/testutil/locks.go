package testutil

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

// LocksOf returns the locks that are fields of structs of the package in dir, each with the name of its struct, such as
// "conn.mu". kinds are the names of the types that count as locks, such as "Mutex". Test files do not count.
func LocksOf(t testing.TB, dir string, kinds ...string) (names []string) {
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
				for _, f := range lockFields(s, kinds) {
					names = append(names, spec.Name.Name+"."+f)
				}
			}
			return true
		})
	}
	return names
}

// lockFields returns the names of the fields of a struct whose types are among kinds.
func lockFields(s *ast.StructType, kinds []string) (names []string) {
	for _, f := range s.Fields.List {
		kind, ok := f.Type.(*ast.SelectorExpr)
		if !ok || !slices.Contains(kinds, kind.Sel.Name) {
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

// LocksAreOrdered fails the test unless the table of locks in the file names exactly the locks in have. The table is in the
// comment that begins with "The locks of this package": the lines that begin with a tab.
func LocksAreOrdered(t testing.TB, file string, have []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, order, ok := strings.Cut(string(b), "// The locks of this package")
	if !ok {
		t.Fatal(file, "does not describe the locks")
	}
	var named []string
	lock := regexp.MustCompile(`\b\w+(\.\w+)+\b`)
	for i, line := range slices.Collect(strings.Lines(order)) {
		if i > 0 && !strings.HasPrefix(line, "//") {
			break
		}
		if strings.HasPrefix(line, "//\t") {
			named = append(named, lock.FindAllString(line, -1)...)
		}
	}
	have = slices.Sorted(slices.Values(have))
	slices.Sort(named)
	if !slices.Equal(have, named) {
		t.Errorf("there are the locks\n%s\nand %s has the locks\n%s", strings.Join(have, "\n"), file, strings.Join(named, "\n"))
	}
}
