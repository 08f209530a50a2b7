// Package house holds the project to its own rules: which package may import which, and what a program links that uses
// one package only.
package house_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/midair-go/midair/"

// pkg is what go list says about a package.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		exit := new(exec.ExitError)
		errors.As(err, &exit)
		t.Fatalf("go list %v: %v\n%s", args, err, exit.Stderr)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// family is the package of the house that an import path belongs to: drain for drain/grpcdrain.
func family(path string) string {
	rest, ok := strings.CutPrefix(path, module)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// No package imports a sibling: they meet in the user's main.
func TestNoPackageImportsASibling(t *testing.T) {
	siblings := []string{"upgrade", "drain", "flags", "canary", "session"}
	for _, p := range list(t, "./...") {
		own := family(p.ImportPath)
		for _, path := range p.Imports {
			if other := family(path); slices.Contains(siblings, own) && slices.Contains(siblings, other) && other != own {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
}

// You pay for what you import: what each package may link beside the standard library.
func TestPackagesLinkOnlyTheirOwn(t *testing.T) {
	otel := []string{"go.opentelemetry.io/", "github.com/go-logr/", "github.com/cespare/xxhash/"}
	for name, allowed := range map[string][]string{
		"upgrade":            append([]string{"github.com/cloudflare/tableflip", "github.com/coreos/go-systemd/", "github.com/cespare/xxhash/", "golang.org/x/sys/"}, otel...),
		"upgrade/certs":      {},
		"drain":              {},
		"flags":              append([]string{"github.com/open-feature/go-sdk/"}, otel...),
		"canary":             otel,
		"session":            {"golang.org/x/sys/"},
		"examples/drainonly": {},
	} {
		for _, dep := range deps(t, name) {
			if !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }) {
				t.Errorf("%s links %s", name, dep)
			}
		}
	}
}

// deps are the packages that a package needs from other modules.
func deps(t *testing.T, name string) []string {
	t.Helper()
	var out []string
	for _, p := range list(t, "./"+name) {
		for _, dep := range p.Deps {
			first, _, _ := strings.Cut(dep, "/")
			if strings.Contains(first, ".") && !strings.HasPrefix(dep, module) {
				out = append(out, dep)
			}
		}
	}
	return out
}

// The core of the SDK of OpenTelemetry is linked nowhere but where a program asks for it: only its API is used.
func TestTelemetryUsesTheAPIOnly(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, path := range p.Imports {
			if strings.HasPrefix(path, "go.opentelemetry.io/otel/sdk") {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
}
