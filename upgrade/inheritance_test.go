//go:build unix

package upgrade

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// talk returns messages that an older generation may send, as a start for the fuzzer.
func talk(f *testing.F) (all []byte) {
	for _, m := range []struct {
		kind wire.Kind
		body any
	}{
		{wire.KindConn, wire.ConnBody{Network: "tcp", Addr: ":1", Ahead: []byte("so far")}}, {wire.KindHurry, nil},
		{wire.KindElder, wire.ElderBody{Generation: 1, PID: 7, Version: "v1"}}, {wire.KindTakes, wire.TakesBody{Plain: []int{0}}}, {wire.KindServing, nil},
	} {
		b, err := wire.Encode(m.kind, m.body, 1)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// Any build and any elder message of an older generation is taken or refused, and no descriptor stays open.
func FuzzInheritance(f *testing.F) {
	body := []byte(`{"generation":1,"pid":7,"version":"v1"}`)
	build, err := state.WriteBuild(&process.Build{Version: "v1", Args: []string{"a", "b"}})
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
		seen := wiretest.NewWitness(t)
		file := sealedFile(t, kept)
		files := []*os.File{seen.File(t), file, seen.File(t)}
		fr := wire.Frame{Body: body, Files: files[:nfiles%4]}
		wiretest.InTime(t, func() {
			p, all := previous{}, newElders(nil)
			_, _ = p.receive(fr), all.adopt(fr)
			p.release()
			all.release()
		})
		wire.Frame{Files: files}.Close()
		seen.MustBeGone(t)
	})
}

// sealedFile returns a file of the form that package state writes, with any content.
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

// If an older generation sends messages and descriptors before this process reads its socket, no descriptor stays open.
func FuzzElder(f *testing.F) {
	f.Add([]byte(`{"generation":1,"pid":7,"version":"v1"}`), wiretest.CutUp(talk(f)))
	f.Fuzz(func(t *testing.T, body, said []byte) {
		seen := wiretest.NewWitness(t)
		end, other, err := sys.SocketPair()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := wire.NewSocket(other)
		if err != nil {
			t.Fatal(err)
		}
		wiretest.InTime(t, func() {
			all := newElders(nil)
			_ = all.adopt(wire.Frame{Body: body, Files: []*os.File{end}})
			wiretest.Talk(theirs.Send, said, seen)
			theirs.Close()
			all.release()
		})
		end.Close()
		seen.MustBeGone(t)
	})
}

// A connection that an older generation passes on while its successor drains, too, is received by the successor or by the next
// generation.
func TestEldersAreHeardToTheEnd(t *testing.T) {
	const conns = 100                // more than a link and its reader can buffer
	null, err := os.Open(os.DevNull) // stands in for a connection
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	file, err := sys.DupFile(ours)
	if err != nil {
		t.Fatal(err)
	}
	here, err1 := wire.NewSocket(ours)
	there, err2 := wire.NewSocket(theirs)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	s := newElders(nil)
	e := &elder{link: wire.NewLink(here)}
	s.add(e)
	s.done.Go(func() { s.watch(e) })
	go func() { // ends when all of them are read
		l := wire.NewLink(there)
		for range conns {
			if err := l.Send(wire.KindConn, wire.ConnBody{Network: "tcp"}, null); err != nil {
				t.Error(err)
			}
		}
		l.Close()
	}()
	heard := 0
	hear := func(f wire.Frame) { heard++; f.Close() }
	hear(<-s.frames)
	s.quit()
	s.rest(hear, true)
	if heard == conns {
		t.Error("it went on reading")
	}
	s.release()
	next, err := wire.NewSocket(file)
	if err != nil {
		t.Fatal(err)
	}
	l := wire.NewLink(next)
	defer l.Close()
	for heard < conns {
		f, ok := <-l.Frames
		if !ok {
			t.Fatalf("%d of %d connections were heard", heard, conns)
		}
		hear(f)
	}
}
