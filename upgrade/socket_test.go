//go:build unix

package upgrade

import (
	"os"
	"testing"
)

// What a process had said before it ended is heard, connections too, although it has not read everything itself.
func TestLastFramesAreHeardOfOneThatHadNotRead(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	here, err := newSocket(ours)
	if err != nil {
		t.Fatal(err)
	}
	there, err := newSocket(theirs)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	beat, err := encodeFrame(kindBeat, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := encodeFrame(kindConn, connBody{Network: "tcp"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := here.send(beat, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := there.send(conn, []*os.File{file}); err != nil {
			t.Fatal(err)
		}
	}
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
