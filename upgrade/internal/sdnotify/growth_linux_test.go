package sdnotify

import (
	"os"
	"strconv"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// After a crash, to take one of many kept sockets by its name costs the same, however many were kept.
func TestKeptSocketsAreTakenWithoutASearch(t *testing.T) {
	testutil.MustGrowLinearly(t, 250, func(n int) func() {
		p := new(Activation)
		for i := range n {
			p.Files = append(p.Files, os.NewFile(1<<20, StorePrefix+strconv.Itoa(i))) // no such descriptor is open
		}
		return func() {
			for _, f := range p.Files {
				if got := p.candidates(f.Name()); len(got) != 1 || got[0] != f || !p.HasKept() || p.TakeFile(f.Name()) != f {
					t.Fatalf("%s is found as %v", f.Name(), got)
				}
			}
			if p.HasKept() {
				t.Fatal("a socket is left")
			}
		}
	})
}

// To note that a socket is stored, and that it is removed, costs the same, however many are stored.
func TestStoredNamesAreFoundWithoutASearch(t *testing.T) {
	testutil.MustGrowLinearly(t, 250, func(n int) func() {
		var s nameSet
		return func() {
			for i := range n {
				s.add(StorePrefix + strconv.Itoa(i))
			}
			for i := range n {
				if !s.remove(StorePrefix + strconv.Itoa(i)) {
					t.Fatal("it was not stored")
				}
			}
		}
	})
}
