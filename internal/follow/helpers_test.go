package follow_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/follow"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// write changes a file in place, or makes it.
func write(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

// replace puts a new file in the place of a file.
func replace(t testing.TB, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	must(t, os.Rename(path+".new", path))
}

// old is a time that tar may give to all files of all releases.
var old = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// date sets the times that a program can set.
func date(t testing.TB, path string) {
	t.Helper()
	must(t, os.Chtimes(path, old, old))
}

// sees looks at a file once. It fails unless the look returns the content as new. If want is empty, the look must return nothing
// new.
func sees(t testing.TB, f *follow.File, want string) {
	t.Helper()
	content, fresh, err := f.Look(false)
	if err != nil || fresh != (want != "") || string(content) != want {
		t.Errorf("Look returns %.80q, %v, %v, want %q", content, fresh, err, want)
	}
}

// fails looks at a file once. It fails unless the look returns an error with the text.
func fails(t testing.TB, f *follow.File, want string) error {
	t.Helper()
	content, fresh, err := f.Look(false)
	if err == nil || fresh || content != nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("Look returns %.80q, %v, %v, want an error with %q", content, fresh, err, want)
	}
	if failed := (*follow.Error)(nil); !errors.As(err, &failed) || failed.Path != f.Path || !strings.HasPrefix(err.Error(), f.Path+": ") {
		t.Errorf("the error is %#v", err)
	}
	return err
}

// follows returns a new file with a content, and a File that has seen this content.
func follows(t testing.TB, content string) *follow.File {
	t.Helper()
	f := &follow.File{Path: filepath.Join(t.TempDir(), "file")}
	write(t, f.Path, content)
	sees(t, f, content)
	return f
}

// settled runs a test in which time.Sleep waits for no time. The look that comes first believes the stamp of the File from then
// on: only a change of the stamp makes a look read the content, or the time that passes.
func settled(t *testing.T, content string, test func(t *testing.T, f *follow.File)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := follows(t, content)
		settle(t, f)
		test(t, f)
	})
}

// settle lets the File believe the stamp from now on.
func settle(t testing.TB, f *follow.File) {
	t.Helper()
	time.Sleep(follow.Settle)
	sees(t, f, "")
	if !f.Believes() {
		t.Error("the stamp is not believed")
	}
}
