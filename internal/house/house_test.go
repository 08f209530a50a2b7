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

// rooms is the order of the packages that only this module uses, and what each may import of the module. Imports run one
// way: from a room to rooms that stand above it in this list.
var rooms = []struct {
	name    string
	imports []string
}{
	{"internal/cohort", nil},
	{"internal/filelock", nil},
	{"internal/follow", nil},
	{"internal/guard", nil},
	{"internal/inherited", nil},
	{"internal/kept", nil},
	{"internal/keyring", nil},
	{"internal/logqueue", []string{"internal/guard"}},
	{"internal/request", nil},
	{"internal/statefile", []string{"internal/filelock"}},
	{"internal/killswitch", []string{"internal/guard", "internal/kept", "internal/logqueue", "internal/statefile"}},
	{"flags/internal/flagd", nil},
	{"flags/internal/hosted", []string{"flags/internal/flagd"}},
	{"flags/internal/moment", nil},
	{"internal/sys", nil},
	{"internal/process", []string{"internal/inherited", "internal/sys"}},
	{"upgrade/internal/state", []string{"internal/guard", "internal/kept", "internal/sys", "internal/process"}},
	{"upgrade/internal/pidfile", []string{"internal/sys"}},
	{"upgrade/internal/wire", []string{"internal/sys"}},
	{"upgrade/internal/broadcast", []string{"internal/guard", "internal/sys", "internal/process", "upgrade/internal/wire"}},
	{"upgrade/internal/sdnotify", []string{"internal/inherited", "internal/sys", "internal/process"}},
	{"upgrade/internal/listener", []string{"internal/sys", "internal/process", "upgrade/internal/wire", "upgrade/internal/sdnotify"}},
	{"upgrade/internal/handoff", []string{"internal/cohort", "internal/guard", "internal/sys", "upgrade/internal/wire", "upgrade/internal/listener"}},
	{"upgrade/internal/supervisor", []string{"internal/sys", "internal/process", "upgrade/internal/state", "upgrade/internal/sdnotify"}},
	{"drain/internal/frame", nil},
	{"drain/internal/life", nil},
	{"drain/internal/nethttpcheck", nil},
	{"drain/internal/sockbuf", nil},
	{"drain/internal/netconn", []string{"drain/internal/sockbuf"}},
}

// forTests are the packages that tests share. No package of users may import them.
var forTests = []string{
	"internal/earlyhelper", "internal/earlyhelper/byos", "internal/house", "internal/testutil", "internal/testutil/servers",
	"canary/subprocess/internal/service",
	"upgrade/internal/wiretest",
	"upgrade/internal/testservice", "upgrade/internal/testservice/plan", "upgrade/internal/testclient",
}

// No room imports upwards: each imports only rooms that stand before it, and nothing of the public packages. No package of
// users imports a package for tests.
func TestRoomsImportOneWay(t *testing.T) {
	var above []string
	allowed := map[string][]string{}
	for _, r := range rooms {
		for _, i := range r.imports {
			if !slices.Contains(above, i) {
				t.Errorf("%s may import %s, which does not stand above it", r.name, i)
			}
		}
		above, allowed[r.name] = append(above, r.name), r.imports
	}
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		may, isRoom := allowed[name]
		test := slices.Contains(forTests, name)
		example := strings.HasPrefix(name, "examples/")
		if strings.Contains("/"+name, "/internal/") && !example && !isRoom && !test {
			t.Errorf("%s has no place in the order of the rooms", name)
		}
		for _, path := range p.Imports {
			other, ours := strings.CutPrefix(path, module)
			if ours && isRoom && !slices.Contains(may, other) {
				t.Errorf("%s imports %s", name, other)
			}
			if ours && !test && !example && slices.Contains(forTests, other) {
				t.Errorf("%s imports %s, which is for tests", name, other)
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
		"flags":              {"github.com/open-feature/go-sdk/", "github.com/cespare/xxhash/"},
		"canary":             {"github.com/cespare/xxhash/"},
		"canary/judge":       {"github.com/cespare/xxhash/"},
		"canary/rollout":     {"github.com/cespare/xxhash/", "golang.org/x/sys/"},
		"session":            {},
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

// A program links go-plugin, and what it brings, only if the program imports canary/subprocess.
func TestOnlySubprocessLinksGoPlugin(t *testing.T) {
	links := func(name string, prefixes ...string) (found []string) {
		for _, dep := range deps(t, name) {
			if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }) {
				found = append(found, dep)
			}
		}
		return found
	}
	plugin := []string{"github.com/hashicorp/go-plugin", "github.com/hashicorp/go-hclog", "github.com/hashicorp/yamux"}
	if len(links("canary/subprocess", plugin...)) == 0 {
		t.Error("canary/subprocess does not link go-plugin")
	}
	for _, name := range []string{"upgrade", "drain", "canary", "canary/judge", "canary/rollout"} {
		if found := links(name, append(plugin, "google.golang.org/grpc")...); found != nil {
			t.Errorf("%s links %v", name, found)
		}
	}
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if slices.ContainsFunc(p.Imports, func(path string) bool { return strings.HasPrefix(path, plugin[0]) }) && name != "canary/subprocess" {
			t.Errorf("%s imports go-plugin", name)
		}
	}
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
