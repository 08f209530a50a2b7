//go:build linux

package testservice

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// trouble is what a callback of this process gets into.
type trouble struct {
	plan.Trouble
	dir   string
	calls atomic.Int64 // of the callback
}

// troubleOf returns the trouble of a generation.
func troubleOf(set plan.Settings, dir string, upgraded bool) *trouble {
	t := &trouble{Trouble: set.Trouble, dir: dir}
	if t.First == upgraded {
		t.In = ""
	}
	return t
}

// meet is called first in each callback.
func (t *trouble) meet(in plan.Callback) {
	if t == nil || in != t.In || t.calls.Add(1) != int64(t.Times) {
		return
	}
	fmt.Fprintln(os.Stderr, plan.SaysTrouble(in))
	if !t.Panics {
		select {}
	}
	waitFor(filepath.Join(t.dir, "go"))
	panic("trouble")
}
