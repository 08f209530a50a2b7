//go:build unix

package upgrade

import (
	"os"
	"testing"
)

// connection sends a connection, which is a file here.
func connection(t *testing.T, to *socket, n int) {
	t.Helper()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b, err := encodeFrame(kindConn, connBody{Network: "tcp"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := to.send(b, []*os.File{file}); err != nil {
			t.Fatal(err)
		}
	}
}

func sockets(t *testing.T) (here, there *socket) {
	t.Helper()
	ours, theirs, err := socketPair()
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
	connection(t, there, 2)
	if err := there.Close(); err != nil {
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
		connection(t, there, conns)
		there.Close()
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
