//go:build linux

package testservice

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// tables has the behaviours that programs have, by the name of the type in package plan.
var tables = map[string][]string{
	"Misbehaviour": words(misbehaviours),
	"Judge":        words(judges),
	"SmokeTest":    words(smokeTests),
	"Verification": words(verifications),
	"Lock":         words(locks),
	"Names":        words(namesAddrs),
	"Drop":         words(drops),
	"Split":        words(splits),
	"Meddle":       words(meddles),
}

func words[K ~string, V any](table map[K]V) (all []string) {
	for k := range table {
		all = append(all, string(k))
	}
	return all
}

// constant is a behaviour as package plan declares it.
type constant struct{ name, typ, word string }

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// constants lists the typed constants of a file.
func constants(t *testing.T, path string) (all []constant) {
	t.Helper()
	ast.Inspect(parse(t, path), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil || len(spec.Values) != 1 {
			return true
		}
		word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, constant{spec.Names[0].Name, spec.Type.(*ast.Ident).Name, word})
		return true
	})
	return all
}

// used returns the names of package plan and the strings that the tests of package upgrade use.
func used(t *testing.T) (names, literals map[string]bool) {
	t.Helper()
	names, literals = map[string]bool{}, map[string]bool{}
	files, err := filepath.Glob("../../*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of package upgrade: %v", err)
	}
	for _, path := range files {
		ast.Inspect(parse(t, path), func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "plan" {
					names[n.Sel.Name] = true
				}
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); err == nil {
					literals[s] = true
				}
			}
			return true
		})
	}
	return names, literals
}

// Each behaviour that settings can name is in the table of a program, and each entry of a table has a name.
func TestEveryBehaviourIsInATable(t *testing.T) {
	named := map[string][]string{}
	for _, c := range constants(t, "plan/behaviour.go") {
		named[c.typ] = append(named[c.typ], c.word)
	}
	for typ := range maps.Keys(named) {
		slices.Sort(named[typ])
		slices.Sort(tables[typ])
		if !slices.Equal(named[typ], tables[typ]) {
			t.Errorf("plan.%s: named %q, in the table %q", typ, named[typ], tables[typ])
		}
	}
	if len(named) != len(tables) {
		t.Errorf("%d types of behaviours, %d tables", len(named), len(tables))
	}
}

// A behaviour that no test of package upgrade asks for is dead code.
func TestEveryBehaviourIsUsedByATest(t *testing.T) {
	names, literals := used(t)
	for _, c := range constants(t, "plan/behaviour.go") {
		if !names[c.name] {
			t.Errorf("no test uses plan.%s", c.name)
		}
	}
	for kind := range kinds {
		if !literals[kind] {
			t.Errorf("no test names messages of the kind %q", kind)
		}
	}
}

// nonsense are settings with a behaviour that no program has, by the field of the behaviour.
func nonsense() map[string]plan.Settings {
	all := map[string]plan.Settings{}
	set := func(field string, change func(*plan.Behaviour)) {
		var s plan.Settings
		change(&s.Behaviour)
		all[field] = s
	}
	const word = "no such word"
	set("Bad", func(b *plan.Behaviour) { b.Bad = word })
	set("Bake", func(b *plan.Behaviour) { b.Bake = word })
	set("Smoke", func(b *plan.Behaviour) { b.Smoke = word })
	set("Verify", func(b *plan.Behaviour) { b.Verify = word })
	set("Lock", func(b *plan.Behaviour) { b.Lock = word })
	set("Names", func(b *plan.Behaviour) { b.Names = word })
	set("Drop", func(b *plan.Behaviour) { b.Drop = word })
	set("Meddling.Do", func(b *plan.Behaviour) { b.Meddling.Do = word })
	set("Meddling.Word", func(b *plan.Behaviour) { b.Meddling.Do, b.Meddling.Word = plan.Says, word })
	set("Meddling.Kind", func(b *plan.Behaviour) { b.Meddling.Do, b.Meddling.Kind = plan.Retort, word })
	return all
}

// A behaviour that no program has is an error with the name of the field: for the test that sets the behaviour, and in the
// service.
func TestUnknownBehavioursAreRefused(t *testing.T) {
	if err := Validate(plan.Settings{}); err != nil {
		t.Errorf("no behaviour: %v", err)
	}
	for field, s := range nonsense() {
		if err := Validate(s); err == nil || !strings.Contains(err.Error(), "Settings."+field+":") {
			t.Errorf("%s: %v", field, err)
		}
		dir := t.TempDir()
		t.Setenv(plan.DirEnv, dir)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "settings"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if code := supervised(Parts{}); code != 1 {
			t.Errorf("%s: the service has exited with %d", field, code)
		}
	}
	var s plan.Settings
	s.Meddling.Do = plan.Rubbish
	if err := Validate(s); err == nil || !strings.Contains(err.Error(), "Meddling.Kind") {
		t.Errorf("rubbish in place of no message: %v", err)
	}
}

// Settings survive the file in which the service reads them.
func TestSettingsSurviveTheFile(t *testing.T) {
	var want, got plan.Settings
	fill(reflect.ValueOf(&want).Elem())
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
}

// fill sets every field to something that is not its zero value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Uint64:
		v.SetUint(7)
	default:
		v.SetInt(7)
	}
}
