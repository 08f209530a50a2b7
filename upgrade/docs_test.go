package upgrade_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// docsPage returns a page of docs.
func docsPage(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../docs/" + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every place that the page names exists: the file, and each function or type in it.
func TestPlacesOfTheArchitectureExist(t *testing.T) {
	page := docsPage(t, "architecture")
	pointer := regexp.MustCompile("`([a-z/_0-9]+\\.go)`(?::((?: `[A-Za-z]+`,?)+))?")
	found := 0
	for _, m := range pointer.FindAllStringSubmatch(page[strings.Index(page, "## Where to change what"):], -1) {
		b, err := os.ReadFile(filepath.Join("..", m[1]))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, name := range strings.FieldsFunc(m[2], func(r rune) bool { return strings.ContainsRune(" `,", r) }) {
			found++
			if !regexp.MustCompile(`(?m)^(func|type) (\([a-z]+ \*?\w+\) )?` + name + `\b`).Match(b) {
				t.Errorf("%s has no %s", m[1], name)
			}
		}
	}
	if found < 30 {
		t.Errorf("%d places were looked at", found)
	}
	for _, file := range regexp.MustCompile("`([a-z]+\\.go)`").FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(file[1]); err != nil {
			t.Errorf("upgrade: %v", err)
		}
	}
}

// The page's table of the protocol has exactly the messages of package wire.
func TestProtocolOnThePageIsThatOfTheWire(t *testing.T) {
	table := docsPage(t, "protocol")
	var rows, kinds []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z]+) \| (?:old|new|candidate|both) \|`).FindAllStringSubmatch(table, -1) {
		rows = append(rows, m[1])
	}
	for k := wire.KindHello; !strings.HasPrefix(k.String(), "kind "); k++ {
		kinds = append(kinds, k.String())
	}
	slices.Sort(rows)
	slices.Sort(kinds)
	if !slices.Equal(rows, kinds) {
		t.Errorf("the page has %v, the wire %v", rows, kinds)
	}
}

// Every package that only this module uses is on the page.
func TestRoomsAreOnThePage(t *testing.T) {
	page := docsPage(t, "architecture")
	for _, pattern := range []string{"../internal/*", "internal/*", "../drain/internal/*"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil || len(dirs) == 0 {
			t.Fatalf("%s: %v, %v", pattern, dirs, err)
		}
		for _, dir := range dirs {
			name := strings.TrimPrefix(filepath.Join("upgrade", dir), "../")
			if !strings.Contains(page, "`"+name+"`") {
				t.Errorf("%s is not on it", name)
			}
		}
	}
}

// The package text says of every method who needs it and whether it may block.
func TestPackageTextHasEveryMethod(t *testing.T) {
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "# Methods, by who needs them")
	needed, rest, _ := strings.Cut(text, "# Methods that may block")
	blocking, _, _ := strings.Cut(rest, "\n// # ")
	upgrader := reflect.TypeFor[*upgrade.Upgrader]()
	if upgrader.NumMethod() < 20 {
		t.Fatalf("%d methods were looked at", upgrader.NumMethod())
	}
	for m := range upgrader.Methods() {
		if !strings.Contains(needed, "[Upgrader."+m.Name+"]") {
			t.Errorf("who needs %s?", m.Name)
		}
		if !regexp.MustCompile(`\b`+m.Name+`\b`).MatchString(blocking) && !strings.HasPrefix(m.Name, "Listen") {
			t.Errorf("may %s block?", m.Name)
		}
	}
}
