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

// The fuzz targets of what comes from another process together with descriptors. None may be lost: each test passes the
// only writing ends of a pipe, and reads the pipe's end when everything is over.

// A link that is fed anything, with any descriptors, ends, and what nobody has taken is closed.
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

// The same over a real socket.
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

// More descriptors than a frame may have end the link, and none of them stays open.
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
