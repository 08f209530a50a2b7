package sys_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// Fill opens the given number of descriptors, each for a file of its own that has no path. Shrink and Release close them.
func TestReserveHoldsFilesWithoutPath(t *testing.T) {
	before := openFDs(t)
	var r sys.Reserve
	r.Fill(3)
	files := map[string]bool{}
	for fd, target := range openFDs(t) {
		if before[fd] == target {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 || strings.HasPrefix(target, "/") {
			t.Errorf("descriptor %d is %s, with flags %#x: %v", fd, target, flags, err)
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
		if err != nil {
			t.Fatal(err)
		}
		files[string(info)] = true // the text contains the number of the eventfd
	}
	if r.Len() != 3 || len(files) != 3 {
		t.Errorf("%d descriptors of %d files, want 3 of 3: %v", r.Len(), len(files), files)
	}
	if r.Shrink(1); r.Len() != 1 {
		t.Errorf("%d descriptors are left, want 1", r.Len())
	}
	if r.Release(); r.Len() != 0 || len(openFDs(t)) != len(before) {
		t.Errorf("%d descriptors are left: %v, %v before", r.Len(), openFDs(t), before)
	}
}

// Room reports that the limit of the process leaves no room for more descriptors.
func TestReserveStopsAtTheLimit(t *testing.T) {
	if !sys.Room(3) {
		t.Error("there is no room for 3 descriptors")
	}
	if limit := sys.FileLimit(); limit > 0 && limit <= 1<<16 && sys.Room(limit) {
		t.Errorf("there is room for %d descriptors beside those that are open", limit)
	}
}

func openFDs(t *testing.T) map[int]string {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]string{}
	for _, e := range dir {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // fails for the directory itself
			all[fd] = target
		}
	}
	return all
}
