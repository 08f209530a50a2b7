package pidfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// write writes a file as another process would.
func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// exists reports whether there is a file at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// If the pid file names this process, Remove removes the pid file and the text beside it. If it names another process, both
// stay. Remove removes the staged files of this process in any case.
func TestRemoveLeavesTheFileOfAnother(t *testing.T) {
	for _, c := range []struct {
		name, content string
		removed       bool
	}{
		{"own", strconv.Itoa(os.Getpid()) + "\n", true}, {"own without a line break", strconv.Itoa(os.Getpid()), true},
		{"another's", strconv.Itoa(os.Getpid()+1) + "\n", false}, {"longer", strconv.Itoa(os.Getpid()) + "0\n", false},
		{"empty", "", false}, {"rubbish", "rubbish", false},
	} {
		p := New(filepath.Join(t.TempDir(), "pid"))
		write(t, p.path, c.content)
		if err := errors.Join(p.WriteLast([]byte("text")), p.Stage()); err != nil {
			t.Fatal(err)
		}
		if p.Owned() != c.removed {
			t.Errorf("%s: owned %v", c.name, p.Owned())
		}
		if err := p.Remove(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		staged, _ := filepath.Glob(filepath.Join(filepath.Dir(p.path), ".*"))
		if exists(p.path) == c.removed || exists(p.path+lastSuffix) == c.removed || len(staged) > 0 {
			t.Errorf("%s: the file exists: %v, the text: %v, staged: %v", c.name, exists(p.path), exists(p.path+lastSuffix), staged)
		}
	}
	if p := New(filepath.Join(t.TempDir(), "pid")); p.Owned() {
		t.Error("a file that is not there is owned")
	}
}

// If the content of the file is no pid of a service, the error of Read has the name of the file and the beginning of the
// content.
func TestReadRefusesRubbish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	for content, want := range map[string]int{"42": 42, " 42\r\n": 42, "2\n": 2, strconv.Itoa(1<<22) + "\n": 1 << 22} {
		write(t, path, content)
		if s, err := Read(path); err != nil || s.PID != want {
			t.Errorf("%q: %d, %v", content, s.PID, err)
		}
	}
	for content, shown := range map[string]string{
		"": `""`, "1\n": `"1\n"`, "0": `"0"`, "-7": `"-7"`, "42 43": `"42 43"`, "42\n43\n": `"42\n43\n"`, "0x10": `"0x10"`, "pid": `"pid"`,
		"99999999999999999999": `"99999999999999999999"`, strings.Repeat("x", 1000): `"` + strings.Repeat("x", 40) + `"`,
	} {
		write(t, path, content)
		s, err := Read(path)
		if s.PID != 0 || err == nil || !strings.HasPrefix(err.Error(), "pid file "+path+": "+shown+" is no pid of a service") {
			t.Errorf("%.50q: %d, %v", content, s.PID, err)
		}
	}
	if _, err := Read(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// If a pid file cannot be published, the error has the name of the file, and no staged file is left. If no file can be staged,
// Stage returns the error.
func TestPublishSaysWhatFails(t *testing.T) {
	dir := t.TempDir()
	p := New(filepath.Join(dir, "pid"))
	if err := errors.Join(p.Stage(), os.MkdirAll(filepath.Join(p.path, "in the way"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(); err == nil || !strings.HasPrefix(err.Error(), "pid file "+p.path+": ") {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	gone := New(filepath.Join(dir, "gone", "pid"))
	for what, err := range map[string]error{"Stage": gone.Stage(), "Publish": gone.Publish()} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "pid file "+gone.path+": ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// With an empty path every method does nothing, and no file appears in the working directory.
func TestWithoutAPathNothingIsWritten(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	none := New("")
	if err := errors.Join(none.Stage(), none.Publish(), none.WriteLast([]byte("text"))); err != nil || none.Owned() {
		t.Errorf("%v, owned %v", err, none.Owned())
	}
	none.Discard(os.Getpid())
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
	if err := none.Remove(); err != nil {
		t.Error(err)
	}
}
