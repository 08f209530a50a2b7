//go:build linux

package upgrade_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// initLimit is how many bytes the packages of this library may allocate before main. Memory is counted because the time differs
// too much between machines: on a virtual machine, the first use of a page of memory may take 60 µs.
const initLimit = 12 << 10

// Before main, a new process does little for this library, because each step there delays the first request after an upgrade.
func TestLibraryDoesLittleBeforeMain(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all, found := 0, false
	line := regexp.MustCompile(`(?m)^init github\.com/midair-go/midair/(upgrade|drain|internal/process|upgrade/internal/wire) @.* (\d+) bytes`)
	for _, m := range line.FindAllStringSubmatch(string(out), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		all, found = all+n, found || m[1] == "upgrade"
	}
	if !found || all > initLimit {
		t.Errorf("%d bytes, want at most %d; the runtime reports package upgrade: %v\n%s", all, initLimit, found, out)
	}
}
