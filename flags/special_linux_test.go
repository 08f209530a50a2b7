package flags_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/internal/testutil"
)

// A pipe in the place of the file is refused without waiting for somebody to write to it.
func TestPipeIsRefusedWithoutWaiting(t *testing.T) {
	f, path := served(t, file("on"), flags.Options{})
	check(t, os.Remove(path))
	check(t, syscall.Mkfifo(path, 0o600))
	f.Check()
	mustBe(t, "the flag", cart(f), "on")
	mustHold(t, f.Status().State, "stale: ", "not a regular file")
}

// A file whose size is not that of its content is being written. Once that is passed over, since the next look may
// find it complete; if it stays so, it is said. The files of /proc are always like this.
func TestFileThatChangesWhileReadIsTriedAgain(t *testing.T) {
	f, path := served(t, file("on"), flags.Options{})
	check(t, os.Remove(path))
	check(t, os.Symlink("/proc/version", path))
	f.Check()
	mustBe(t, "the state after one look", f.Status().State, "ready")
	f.Check()
	mustHold(t, f.Status().State, "stale: ", "somebody is writing it")
	mustBe(t, "the flag", cart(f), "on")
	replace(t, path, file("off"))
	f.Check()
	mustBe(t, "the flag", cart(f), "off")

	first := open(t, "/proc/version", flags.Options{})
	err := first.Ready(context.Background())
	if err == nil {
		t.Fatal("ready")
	}
	mustHold(t, err.Error(), "somebody is writing it")
}

// A descriptor is not left open by any of the looks, good or bad.
func TestLooksLeaveNoDescriptors(t *testing.T) {
	f, path := served(t, file("on"), flags.Options{})
	before := len(testutil.OpenFDs())
	for _, content := range []string{"{", file("off"), "", number("1")} {
		for range 20 {
			replace(t, path, content)
			f.Check()
		}
	}
	check(t, os.Remove(path))
	check(t, os.Mkdir(path, 0o700))
	f.Check()
	mustBe(t, "descriptors", len(testutil.OpenFDs()), before)
	check(t, os.Remove(path))
	check(t, os.Symlink(filepath.Base(path), path)) // to itself
	f.Check()
	mustHold(t, f.Status().State, "stale: ")
	mustBe(t, "the weight", f.Weight("w", 0)(), 1)
}
