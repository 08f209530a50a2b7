package process

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// Preflight returns an error if the start directory of this process was removed, or was never known, because the next
// generation begins there.
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
