//go:build unix

package upgrade

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/state"
)

// The fuzz targets of what comes from another process together with descriptors. None may be lost: each test passes the
// only writing ends of a pipe, and reads the pipe's end when everything is over.

// witness is a pipe whose writing ends go to the code under test.
type witness struct{ r, w *os.File }

func newWitness(t *testing.T) witness {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return witness{r, w}
}

func (w witness) file(t *testing.T) *os.File {
	t.Helper()
	f, err := sys.DupFile(w.w)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// mustBeGone fails if a writing end is open that should not be.
func (w witness) mustBeGone(t *testing.T) {
	t.Helper()
	w.w.Close()
	defer w.r.Close()
	_ = w.r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := w.r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("a descriptor is leaked: %v", err)
	}
}

// inTime fails if fn hangs.
func inTime(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it hangs")
	}
}

// spoil cuts b into pieces: the first byte of each says how long it is and how many descriptors come with it.
func spoil(b []byte) (pieces [][]byte, files []int) {
	for len(b) > 1 {
		n := min(1+int(b[0]>>2)*16, len(b)-1)
		pieces, files = append(pieces, b[1:1+n]), append(files, int(b[0]&3))
		b = b[1+n:]
	}
	return pieces, files
}

// cutUp is the opposite of spoil: pieces of at most 400 bytes with one descriptor each.
func cutUp(b []byte) (out []byte) {
	for len(b) > 0 {
		n := min(25, len(b)/16)
		if n == 0 {
			return append(append(out, 1), b...)
		}
		out = append(append(out, byte(n-1)<<2|1), b[:1+(n-1)*16]...)
		b = b[1+(n-1)*16:]
	}
	return out
}

// A link that is fed anything, with any descriptors, ends, and what nobody has taken is closed.
func FuzzLink(f *testing.F) {
	f.Add(cutUp(allFrames(f)))
	f.Add([]byte("\x03mdr1 rubbish"))
	f.Fuzz(func(t *testing.T, b []byte) {
		seen := newWitness(t)
		w := &wireOf{}
		pieces, files := spoil(b)
		for i, p := range pieces {
			var with []*os.File
			for range files[i] {
				with = append(with, seen.file(t))
			}
			w.pieces, w.files = append(w.pieces, p), append(w.files, with)
		}
		inTime(t, func() { endOf(newLink(w)) })
		for _, unsent := range w.files {
			frame{files: unsent}.close()
		}
		seen.mustBeGone(t)
	})
}

// The same over a real socket.
func FuzzSocket(f *testing.F) {
	f.Add(cutUp(allFrames(f)))
	f.Add([]byte("\x03mdr1 rubbish"))
	f.Fuzz(func(t *testing.T, b []byte) {
		seen := newWitness(t)
		ours, theirs := linkedSockets(t)
		inTime(t, func() {
			l := newLink(ours)
			var done sync.WaitGroup
			done.Go(func() { talk(theirs, b, seen) })
			endOf(l)
			done.Wait()
		})
		seen.mustBeGone(t)
	})
}

func linkedSockets(t *testing.T) (a, b *socket) {
	t.Helper()
	fa, fb, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = newSocket(fa); err != nil {
		t.Fatal(err)
	}
	if b, err = newSocket(fb); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// More descriptors than a frame may have end the link, and none of them stays open.
func TestTooManyDescriptorsEndTheLink(t *testing.T) {
	seen := newWitness(t)
	ours, theirs := linkedSockets(t)
	defer theirs.Close()
	const most = 8
	for _, n := range []int{most, most + 1} {
		b, err := encodeFrame(kindHurry, nil, n)
		if err == nil {
			err = theirs.send(b, slices.Repeat([]*os.File{seen.w}, n))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l := newLink(ours)
	f := <-l.frames
	if len(f.files) != most {
		t.Errorf("%d descriptors came, want %d", len(f.files), most)
	}
	f.close()
	if _, ok := <-l.frames; ok || !errors.Is(l.broken, errFrame) {
		t.Errorf("the link goes on: %v", l.broken)
	}
	l.close()
	seen.mustBeGone(t)
}

// endOf reads a link to its end.
func endOf(l *link) {
	for f := range l.frames {
		f.close()
	}
	l.close()
}

// What an older generation leaves may be anything: it is taken or refused, and nothing of it stays open.
func FuzzInheritance(f *testing.F) {
	body := []byte(`{"generation":1,"pid":7,"version":"v1"}`)
	build, err := state.WriteBuild("v1", []string{"a", "b"})
	if err != nil {
		f.Fatal(err)
	}
	defer build.Close()
	info, err := build.Stat()
	if err != nil {
		f.Fatal(err)
	}
	good, err := io.ReadAll(io.NewSectionReader(build, 0, info.Size()-sha256.Size))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, good, byte(2))
	f.Add([]byte("{"), []byte("midair\x00\x01"), byte(1))
	f.Fuzz(func(t *testing.T, body, kept []byte, nfiles byte) {
		seen := newWitness(t)
		file := sealedFile(t, kept)
		files := []*os.File{seen.file(t), file, seen.file(t)}
		fr := frame{body: body, files: files[:nfiles%4]}
		inTime(t, func() {
			p, all := previous{}, newElders()
			_, _ = p.take(fr.files), all.adopt(fr)
			p.release()
			all.release()
		})
		frame{files: files}.close()
		seen.mustBeGone(t)
	})
}

// sealedFile is a file as package state writes it, of any content.
func sealedFile(t *testing.T, content []byte) *os.File {
	t.Helper()
	file, err := sys.MemFile("test")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	_, err = file.Write(append(content, sum[:]...))
	if err := errors.Join(err, sys.Seal(file)); err != nil {
		t.Fatal(err)
	}
	return file
}

// An older generation that talks, and sends descriptors, is listened to by nobody.
func FuzzElder(f *testing.F) {
	f.Add([]byte(`{"generation":1,"pid":7,"version":"v1"}`), cutUp(allFrames(f)))
	f.Fuzz(func(t *testing.T, body, said []byte) {
		seen := newWitness(t)
		ours, theirs := linkedSockets(t)
		end, err := ours.dup()
		if err != nil {
			t.Fatal(err)
		}
		ours.Close()
		inTime(t, func() {
			all := newElders()
			_ = all.adopt(frame{body: body, files: []*os.File{end}})
			talk(theirs, said, seen)
			all.release()
		})
		end.Close()
		seen.mustBeGone(t)
	})
}

// talk sends what spoil makes of b until the other end has had enough.
func talk(to *socket, b []byte, seen witness) {
	defer to.Close()
	pieces, files := spoil(b)
	for i, p := range pieces {
		if to.send(p, slices.Repeat([]*os.File{seen.w}, files[i])) != nil {
			return
		}
	}
}
