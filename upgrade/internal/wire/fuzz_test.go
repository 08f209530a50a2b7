//go:build unix

package wire

import (
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// The fuzz targets for bytes and descriptors from another process. No descriptor may stay open: each test passes the only
// writing ends of a pipe, and reads the end of the pipe when all is over.

// A link that receives any bytes with any descriptors ends, and the descriptors that were not taken are closed.
func FuzzLink(f *testing.F) {
	f.Add(wiretest.CutUp(allFrames(f)))
	f.Add([]byte("\x03mdr1 rubbish"))
	f.Fuzz(func(t *testing.T, b []byte) {
		seen := wiretest.NewWitness(t)
		w := &wiretest.Transport{}
		pieces, files := wiretest.Spoil(b)
		for i, p := range pieces {
			var with []*os.File
			for range files[i] {
				with = append(with, seen.File(t))
			}
			w.Pieces, w.Files = append(w.Pieces, p), append(w.Files, with)
		}
		wiretest.InTime(t, func() { endOf(NewLink(w)) })
		for _, unsent := range w.Files {
			Frame{Files: unsent}.Close()
		}
		seen.MustBeGone(t)
	})
}

// A link over a real socket that receives any bytes with any descriptors ends, and the descriptors are closed.
func FuzzSocket(f *testing.F) {
	f.Add(wiretest.CutUp(allFrames(f)))
	f.Add([]byte("\x03mdr1 rubbish"))
	f.Fuzz(func(t *testing.T, b []byte) {
		seen := wiretest.NewWitness(t)
		ours, theirs := linkedSockets(t)
		wiretest.InTime(t, func() {
			l := NewLink(ours)
			var done sync.WaitGroup
			done.Go(func() { wiretest.Talk(theirs.Send, b, seen); theirs.Close() })
			endOf(l)
			done.Wait()
		})
		seen.MustBeGone(t)
	})
}

func linkedSockets(t *testing.T) (a, b Transport) {
	t.Helper()
	fa, fb, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = NewSocket(fa); err != nil {
		t.Fatal(err)
	}
	if b, err = NewSocket(fb); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// If more descriptors come than a frame may have, the link ends, and all of them are closed.
func TestTooManyDescriptorsEndTheLink(t *testing.T) {
	seen := wiretest.NewWitness(t)
	ours, theirs := linkedSockets(t)
	defer theirs.Close()
	const most = 8
	for _, n := range []int{most, most + 1} {
		b, err := Encode(KindHurry, nil, n)
		if err == nil {
			err = theirs.Send(b, seen.Lend(n))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l := NewLink(ours)
	f := <-l.Frames
	if len(f.Files) != most {
		t.Errorf("%d descriptors came, want %d", len(f.Files), most)
	}
	f.Close()
	if _, ok := <-l.Frames; ok || !errors.Is(l.Broken, ErrFrame) {
		t.Errorf("the link goes on: %v", l.Broken)
	}
	l.Close()
	seen.MustBeGone(t)
}

// endOf reads a link to its end.
func endOf(l *Link) {
	for f := range l.Frames {
		f.Close()
	}
	l.Close()
}
