package subprocess

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/filelock"
	"github.com/midair-go/midair/internal/testutil"
)

// A host that waits for its turn in a directory which another host removes meanwhile takes its turn in the directory that is there
// then: otherwise two hosts would have a turn at once.
func TestTurnIsInTheDirectoryThatIsThere(t *testing.T) {
	base := filepath.Join(t.TempDir(), "s")
	if err := os.Mkdir(base, 0o700); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	if free, err := filelock.Try(old); err != nil || !free {
		t.Fatal(free, err)
	}
	taken := make(chan *os.File, 1)
	go func() { // ends with the turn
		turn, err := takeTurn(t.Context(), base, "a")
		if err != nil {
			t.Error(err)
		}
		taken <- turn
	}()
	testutil.Until(t, 10*time.Second, "the other host waits for its turn", func() bool { return opened(base) == 2 })
	if err := os.Remove(base); err != nil {
		t.Fatal(err)
	}
	old.Close()
	turn := <-taken
	defer turn.Close()
	if !isAt(turn, base) {
		t.Error("the turn is in the directory that was removed")
	}
}

// opened returns how often this process has a directory open.
func opened(path string) (n int) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == path {
			n++
		}
	}
	return n
}
