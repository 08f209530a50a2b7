//go:build linux

package testservice

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// blob is a kept value of any size. Its first byte is the number of its changes. MarshalBinary returns the memory of the blob, so a
// change replaces this memory.
type blob struct {
	note    func(what string) // writes down the calls of the methods
	mu      sync.Mutex
	b       []byte
	changes uint64
}

// countedBlob is a blob that tells the library how often it has changed.
type countedBlob struct{ *blob }

// Changes is called by the library.
func (c countedBlob) Changes() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// keepBlob makes a blob of the size in the settings, and passes it to Keep. It does nothing if the size is 0.
func keepBlob(up *upgrade.Upgrader, set plan.Settings, dir string, first bool) *blob {
	b := &blob{note: func(what string) { noteIn(filepath.Join(dir, "kept"), what) }}
	if set.Kept == 0 {
		return b
	}
	b.b = make([]byte, set.Kept)
	for i := 1; first && i < len(b.b); i++ {
		b.b[i] = byte(i * 7)
	}
	if set.KeptCounts {
		up.Keep("blob", countedBlob{b})
	} else {
		up.Keep("blob", b)
	}
	return b
}

// noteIn appends a line to a file: the pid, and what this process has done.
func noteIn(path, what string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kept:", err) // the test misses the line
		return
	}
	defer f.Close()
	fmt.Fprintln(f, os.Getpid(), what)
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (v *blob) MarshalBinary() ([]byte, error) {
	v.note("marshals")
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (v *blob) UnmarshalBinary(b []byte) error {
	v.note("restores")
	for i := 1; i < len(b); i++ {
		if b[i] != byte(i*7) {
			return fmt.Errorf("byte %d of %d is %#x", i, len(b), b[i])
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes++
	v.b = append(v.b[:0], b...)
	return nil
}

// change changes the blob, and returns its first byte.
func (v *blob) change() byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes++
	v.b = slices.Clone(v.b)
	v.b[0]++
	return v.b[0]
}

// first returns the first byte.
func (v *blob) first() byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.b[0]
}
