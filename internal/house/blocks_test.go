package house_test

import (
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// packages are those that Go code of a page may use, by the name that it is written with.
var packages = map[string]string{
	"context": "context", "errors": "errors", "testing": "testing", "http": "net/http", "net": "net", "os": "os", "exec": "os/exec", "signal": "os/signal", "syscall": "syscall", "time": "time",
	"upgrade": module + "upgrade", "certs": module + "upgrade/certs", "drain": module + "drain", "grpcdrain": module + "drain/grpcdrain",
	"flags": module + "flags", "flagstest": module + "flags/flagstest", "httpflags": module + "flags/httpflags",
	"otelflags": module + "flags/otelflags", "canary": module + "canary", "otelcanary": module + "canary/otelcanary",
	"rollout": module + "canary/rollout", "subprocess": module + "canary/subprocess",
	"grpccanary": module + "canary/grpccanary", "echopb": module + "examples/grpcserver/echopb", "session": module + "session",
	"openfeature": "github.com/open-feature/go-sdk/openfeature", "grpc": "google.golang.org/grpc", "credentials": "google.golang.org/grpc/credentials",
}

// goMarker is what the comment before a block of Go code says: whether the block has declarations, or statements of a function
// with these parameters, and which names it leaves unused.
var goMarker = regexp.MustCompile(`^go: (?:(declarations)|statements(\(.*\)))(?: leaves ([\w, ]+))?$`)

// inCompat begins the marker of a block that a test in internal/compat compiles, because the block needs other modules.
const inCompat = "go: in internal/compat/"

// source makes a file of a block of Go code, or says why it cannot.
func source(b block, name string) (string, error) {
	m := goMarker.FindStringSubmatch(b.marker)
	if m == nil {
		return "", fmt.Errorf("before it there is no <!-- go: declarations --> and no <!-- go: statements(PARAMETERS) -->")
	}
	code := b.text
	if m[1] == "" {
		for _, left := range strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' }) {
			code += "_ = " + left + "\n"
		}
		code = "func _" + m[2] + " error {\n{\n" + code + "}\nreturn nil\n}\n"
	}
	var imports []string
	for short, path := range packages {
		if regexp.MustCompile(`(^|[^.\w"])` + short + `\.[A-Z]`).MatchString(code) {
			imports = append(imports, fmt.Sprintf("import %q\n", path))
		}
	}
	slices.Sort(imports)
	out, err := format.Source([]byte("package " + name + "\n" + strings.Join(imports, "") + code))
	return string(out), err
}

// sources writes each block of Go code of the pages into a package of its own, and returns the lines with which the README
// makes a module.
func sources(t *testing.T, app string) (steps []string) {
	t.Helper()
	count := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.marker == "run: in a module beside a checkout" {
				steps = strings.Split(strings.TrimSpace(b.text), "\n")
			}
			if b.language != "go" || strings.HasPrefix(b.marker, inCompat) {
				continue
			}
			count++
			name := fmt.Sprintf("block%d", count)
			text, err := source(b, name)
			if err != nil {
				t.Errorf("%s:%d: %v", p.name, b.line, err)
				continue
			}
			write(t, filepath.Join(app, name, fmt.Sprintf("%s_line_%d.go", strings.ReplaceAll(p.name, "/", "_"), b.line)), text)
		}
	}
	if count < 8 || len(steps) == 0 {
		t.Fatalf("%d blocks of Go code and %d steps to make a module were found", count, len(steps))
	}
	return steps
}

// Each block of Go code compiles, in a module that is made in the way that the README says.
func TestGoOfPagesCompiles(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	app := filepath.Join(dir, "app")
	if err := os.Symlink(root, filepath.Join(dir, "midair")); err != nil {
		t.Skip(err)
	}
	for _, step := range slices.Concat([]string{"go mod init app"}, sources(t, app), []string{"go build ./..."}) {
		words := strings.Fields(step)
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = app
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOPROXY=off", "GOSUMDB=off", "GOFLAGS=-mod=mod")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", step, err, out)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
