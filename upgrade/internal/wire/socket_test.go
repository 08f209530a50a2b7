//go:build unix

package wire

import (
	"errors"
	"os"
	"testing"

	"github.com/midair-go/midair/internal/sys"
)

// connections sends n messages of KindConn, with files in place of connections.
func connections(to Transport, n int) error {
	file, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer file.Close()
	b, err := Encode(KindConn, ConnBody{Network: "tcp"}, 1)
	for range n {
		if err == nil {
			err = to.Send(b, []*os.File{file})
		}
	}
	return err
}

func sockets(t *testing.T) (here, there Transport) {
	t.Helper()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	if here, err = NewSocket(ours); err != nil {
		t.Fatal(err)
	}
	if there, err = NewSocket(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// The last messages and connections of a process arrive after its end, even if the process has not read all messages to it.
func TestLastFramesAreHeardOfOneThatHadNotRead(t *testing.T) {
	here, there := sockets(t)
	beat, err := Encode(KindBeat, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := here.Send(beat, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(connections(there, 2), there.Close()); err != nil {
		t.Fatal(err)
	}
	l := NewLink(here)
	defer l.Close()
	heard := 0
	for f := range l.Frames {
		if f.Kind == KindConn && len(f.Files) == 1 {
			heard++
		}
		f.Close()
	}
	if heard != 2 {
		t.Errorf("%d of 2 connections were heard, and the link ended with %v", heard, l.Broken)
	}
}
