//go:build unix

package process_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// A file that can certainly not be executed is refused before the start. The error has the name of the file and the reason.
func TestImpossibleExecutableIsRefused(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeProgram(t, at("plain"), "#!/bin/sh\n")
	if err := errors.Join(os.Chmod(at("plain"), 0o644), os.Mkdir(at("dir"), 0o755), unix.Mkfifo(at("fifo"), 0o755),
		os.Symlink(at("missing"), at("dangling"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want string
		err  error
	}{
		{at("dir"), at("dir") + ": is a directory", nil},
		{at("fifo"), at("fifo") + ": is no regular file (mode prwx", nil},
		{os.DevNull, os.DevNull + ": is no regular file (mode Dcrw-", nil},
		{at("plain"), at("plain") + ": not executable (mode -rw-r--r--)", fs.ErrPermission},
		{at("missing"), at("missing"), fs.ErrNotExist},
		{at("dangling"), at("dangling"), fs.ErrNotExist},
		{at("plain") + "/below", at("plain"), unix.ENOTDIR},
		{"midair-has-no-such-program", "midair-has-no-such-program", exec.ErrNotFound},
		{"", "", exec.ErrNotFound},
	} {
		before := testutil.OpenFDs()
		_, err := process.Preflight(c.path, nil, process.Policy{})
		if err == nil || !strings.HasPrefix(err.Error(), "executable") || !strings.Contains(err.Error(), c.want) || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%q: %v, want %q", c.path, err, c.want)
		}
		mustHave(t, before)
	}
}

// A bare name is looked up in PATH, a path is not. The program gets the name as it was given.
func TestBareNameIsLookedUpInPath(t *testing.T) {
	dir := t.TempDir()
	writeProgram(t, filepath.Join(dir, "midair-program"), "#!/bin/sh\necho \"$0\" >&5\n")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if got, want := start(t, preflight(t, "midair-program"), os.Environ()).line(), filepath.Join(dir, "midair-program"); got != want {
		t.Errorf("started %q, want %q", got, want)
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "midair-link"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := start(t, preflight(t, "midair-link", "argument"), roleEnviron()).report(); !slices.Equal(r.Args, []string{"midair-link", "argument"}) {
		t.Errorf("the arguments are %q: the name was changed", r.Args)
	}
	if _, err := process.Preflight("./midair-program", nil, process.Policy{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path was looked up: %v", err)
	}
}

// A relative path begins at the start directory, even if the process has changed its directory.
func TestRelativePathCountsFromTheStart(t *testing.T) {
	root := t.TempDir()
	here, elsewhere := filepath.Join(root, "program"), filepath.Join(root, strings.Repeat("d/", 30)) // too deep for the ".."
	writeProgram(t, here, "#!/bin/sh\necho right >&5\n")
	if err := os.MkdirAll(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Rel(process.StartDir(), here)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(elsewhere)
	if got := start(t, preflight(t, path), os.Environ()).line(); got != "right" {
		t.Errorf("%q", got)
	}
}

// The kernel follows a symbolic link at the start, and Preflight does not. So a link that was changed after Preflight leads to
// the new file.
func TestLinkIsFollowedWhenItStarts(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "current")
	for _, name := range []string{"old", "new"} {
		writeProgram(t, filepath.Join(dir, name), "#!/bin/sh\necho "+name+" >&5\n")
	}
	if err := os.Symlink("old", link); err != nil {
		t.Fatal(err)
	}
	p := preflight(t, link)
	if err := errors.Join(os.Remove(link), os.Symlink("new", link)); err != nil {
		t.Fatal(err)
	}
	if got := start(t, p, os.Environ()).line(); got != "new" {
		t.Errorf("%q", got)
	}
}

// A program for another platform is refused by its build information.
func TestProgramForAnotherPlatformIsRefused(t *testing.T) {
	const setting = "build\tGOARCH="
	info, ok := debug.ReadBuildInfo()
	if !ok || !slices.Contains(info.Settings, debug.BuildSetting{Key: "GOARCH", Value: runtime.GOARCH}) {
		t.Skip("this program does not know what it was built for")
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("x", len(runtime.GOARCH))
	path := filepath.Join(t.TempDir(), "other")
	writeProgram(t, path, string(bytes.ReplaceAll(self, []byte(setting+runtime.GOARCH), []byte(setting+other))))
	want := "is built for " + runtime.GOOS + "/" + other + ", this machine needs " + runtime.GOOS + "/" + runtime.GOARCH
	if _, err := process.Preflight(path, nil, process.Policy{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// Verify gets a path of the same open file that is started. If Verify returns an error, the program is refused, and no
// descriptor stays open.
func TestVerifyDecides(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	writeProgram(t, path, "#!/bin/sh\nexit 0\n")
	bad := errors.New("bad signature")
	for _, c := range []struct {
		name   string
		verify func(string) error
		want   string
	}{
		{"yes", func(name string) error { _, err := os.ReadFile(name); return err }, ""},
		{"no", func(string) error { return bad }, "executable " + path + ": Options.Verify: bad signature"},
	} {
		before := testutil.OpenFDs()
		p, err := process.Preflight(path, nil, process.Policy{Verify: c.verify})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		p.Close()
		mustHave(t, before)
	}
}

// With SameBuild, the build that runs already is refused under any name, with the error that was given. A file with one byte
// more is another build.
func TestSameBuildIsRefused(t *testing.T) {
	if !process.CanRunDescriptor {
		t.Skip("what runs cannot be read here")
	}
	again := errors.New("it runs already")
	dir := t.TempDir()
	copied := copyFile(t, os.Args[0], filepath.Join(dir, "copy"), "")
	longer := copyFile(t, os.Args[0], filepath.Join(dir, "longer"), "\x00")
	for path, same := range map[string]bool{os.Args[0]: true, copied: true, longer: false, "/bin/sh": false} {
		_, err := process.Preflight(path, nil, process.Policy{SameBuild: again})
		if errors.Is(err, again) != same || !same && err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := process.Preflight(path, nil, process.Policy{}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
