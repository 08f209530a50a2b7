//go:build linux

package sdnotify

import (
	"os"
	"testing"

	"github.com/midair-go/midair/internal/sys"
)

// A socket of a socket unit counts as such even if the manager also passes it as a kept socket.
func TestSocketOfAUnitIsKnownAfterARestart(t *testing.T) {
	unit, own := socketFile(t, "web", "tcp", "127.0.0.1:0"), socketFile(t, StoreName("listener", "tcp", "127.0.0.1:2"), "tcp", "127.0.0.1:0")
	again, err := sys.DupFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	kept := os.NewFile(uintptr(sys.FD(again)), StoreName("listener", "tcp", "127.0.0.1:1"))
	defer again.Close()
	p := &Activation{Files: []*os.File{unit, kept, own}}
	var seen []string
	p.EachKept(func(f *os.File) { seen = append(seen, f.Name()) })
	if len(seen) != 1 || seen[0] != own.Name() {
		t.Errorf("kept and of no unit: %v", seen)
	}
	for _, c := range []struct {
		file *os.File
		unit bool
	}{{kept, true}, {own, false}} {
		inode, ok := inodeOf(c.file)
		if !ok || p.IsUnit(inode) != c.unit {
			t.Errorf("%s: of a unit: %v, %v", c.file.Name(), p.IsUnit(inode), ok)
		}
	}
	left, _ := p.Unclaimed()
	defer own.Close()
	if len(left) != 1 || left[0] != own {
		t.Errorf("left: %v", left)
	}
}
