//go:build unix

package handoff

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// If a listener is closed before the program has accepted a moved connection, the connection goes to the process that serves.
// If there is no such process, the connection ends.
func TestMovedAndNotAcceptedGoesOn(t *testing.T) {
	for _, serves := range []bool{true, false} {
		var on []net.Conn
		s := listener.New(nil, func(c net.Conn) bool { on = append(on, c); return serves })
		ln, err := s.Listen("tcp", "127.0.0.1:0", false)
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		s.Open(true)
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.Pause(true)
		file, err := sys.ConnFile(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := GiveMoved(s, wire.ConnBody{Network: "tcp", Addr: "127.0.0.1:0", Ahead: []byte("state")}, file, nil); err != nil {
			t.Fatal(err)
		}
		file.Close()
		c.Close()
		ln.Close()
		if len(on) != 1 || string(on[0].(*Conn).ahead) != "state" {
			t.Fatalf("%v were passed on, want one with its state", on)
		}
		if !serves {
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("nobody serves the client, and it reads: %v", err)
			}
			continue
		}
		if _, err := on[0].Write([]byte("x")); err != nil {
			t.Errorf("it was closed here: %v", err)
		}
		on[0].Close()
	}
}
