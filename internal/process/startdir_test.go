package process

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// Nothing is started when the directory that this process was started in is gone, or was never known: the next generation
// begins there.
func TestStartDirectoryMustBeThere(t *testing.T) {
	was := startDir
	t.Cleanup(func() { startDir = was })
	for dir, want := range map[string]string{
		"": "was not readable", filepath.Join(t.TempDir(), "gone"): "is gone",
	} {
		startDir = dir
		if _, err := Preflight("sh", nil, Policy{}); err == nil || !strings.Contains(err.Error(), "the directory that the program was started in "+want) {
			t.Errorf("%q: %v", dir, err)
		} else if dir != "" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", dir, err)
		}
	}
}
