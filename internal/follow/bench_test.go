package follow_test

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/follow"
)

// A look at a file that has not changed allocates the file information only. A read that finds the same content does not hold
// the content in memory.
func TestLookAtAnUnchangedFileIsCheap(t *testing.T) {
	f := follows(t, strings.Repeat("x", 1<<20))
	if n := testing.AllocsPerRun(20, func() { _, _, _ = f.Look(true) }); n > 30 {
		t.Errorf("a look that reads: %v allocations", n)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, _ = f.Look(true)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<19 {
		t.Errorf("a look that reads allocates %d bytes", n)
	}
	f.BelieveUntil(time.Now().Add(time.Hour))
	if n := testing.AllocsPerRun(100, func() { _, _, _ = f.Look(false) }); n > 4 {
		t.Errorf("a look that believes the stamp: %v allocations", n)
	}
}

// BenchmarkLook measures a look at an unchanged file of 1 MB: one that believes the stamp, and one that reads the content. The
// share is that of the time of one processor, for a look each second and a read every 10 seconds.
func BenchmarkLook(b *testing.B) {
	newFile := func(b *testing.B) *follow.File {
		f := &follow.File{Path: filepath.Join(b.TempDir(), "file")}
		write(b, f.Path, strings.Repeat("x", 1<<20))
		sees(b, f, strings.Repeat("x", 1<<20))
		return f
	}
	look := func(b *testing.B, f *follow.File, always bool, looks float64) {
		b.ReportAllocs()
		for b.Loop() {
			if _, fresh, err := f.Look(always); fresh || err != nil {
				b.Fatal(fresh, err)
			}
		}
		b.ReportMetric(100*b.Elapsed().Seconds()/float64(b.N)*looks, "%core")
	}
	b.Run("stamp", func(b *testing.B) {
		f := newFile(b)
		f.BelieveUntil(time.Now().Add(time.Hour))
		look(b, f, false, 1)
	})
	b.Run("content", func(b *testing.B) { look(b, newFile(b), true, 1/follow.RestMin.Seconds()) })
}
