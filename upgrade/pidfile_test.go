package upgrade

import (
	"os"
	"path/filepath"
	"testing"
)

// A staged pid file is staged again if it has gone, so that a check finds out what the commit would.
func TestStagedPIDFileIsLookedAtAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	p := newPIDFile(filepath.Join(dir, "pid"))
	for range 2 {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := p.stage(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(p.stagedBy(os.Getpid())); err != nil {
			t.Errorf("it is not staged: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.stage(); err == nil {
		t.Error("it is staged in a directory that has gone")
	}
}
