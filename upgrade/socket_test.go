//go:build unix

package upgrade

import (
	"errors"
	"os"
	"testing"

	"github.com/midair-go/midair/internal/sys"
)

// connections sends n of them, which are files here.
func connections(to *socket, n int) error {
	file, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer file.Close()
	b, err := encodeFrame(kindConn, connBody{Network: "tcp"}, 1)
	for range n {
		if err == nil {
			err = to.send(b, []*os.File{file})
		}
	}
	return err
}

func sockets(t *testing.T) (here, there *socket) {
	t.Helper()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	if here, err = newSocket(ours); err != nil {
		t.Fatal(err)
	}
	if there, err = newSocket(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// What a process had said before it ended is heard, connections too, although it has not read everything itself.
func TestLastFramesAreHeardOfOneThatHadNotRead(t *testing.T) {
	here, there := sockets(t)
	beat, err := encodeFrame(kindBeat, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := here.send(beat, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(connections(there, 2), there.Close()); err != nil {
		t.Fatal(err)
	}
	l := newLink(here)
	defer l.close()
	heard := 0
	for f := range l.frames {
		if f.kind == kindConn && len(f.files) == 1 {
			heard++
		}
		f.close()
	}
	if heard != 2 {
		t.Errorf("%d of 2 connections were heard, and the link ended with %v", heard, l.broken)
	}
}

// What an older generation passes on while its successor leaves, too, is heard by that one or by the next.
func TestEldersAreHeardToTheEnd(t *testing.T) {
	const conns = 100 // more than a link and its reader hold
	here, there := sockets(t)
	file, err := here.dup()
	if err != nil {
		t.Fatal(err)
	}
	s := newElders()
	e := &elder{link: newLink(here)}
	s.add(e)
	s.done.Go(func() { s.watch(e) })
	go func() { // ends when all of them are read
		if err := errors.Join(connections(there, conns), there.Close()); err != nil {
			t.Error(err)
		}
	}()
	heard := 0
	hear := func(f frame) { heard++; f.close() }
	hear(<-s.frames)
	s.quit()
	s.rest(hear)
	if heard == conns {
		t.Error("it went on reading")
	}
	s.release()
	next, err := newSocket(file)
	if err != nil {
		t.Fatal(err)
	}
	l := newLink(next)
	defer l.close()
	for heard < conns {
		f, ok := <-l.frames
		if !ok {
			t.Fatalf("%d of %d connections were heard", heard, conns)
		}
		hear(f)
	}
}
