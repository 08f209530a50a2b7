package netconn_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/midair-go/midair/drain/internal/netconn"
)

// The interfaces have every exported method of the types of package net. The test fails if a later Go adds a method.
func TestInterfacesHaveEveryMethodOfNet(t *testing.T) {
	for of, all := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[*net.TCPConn]():  reflect.TypeFor[netconn.TCP](),
		reflect.TypeFor[*net.UnixConn](): reflect.TypeFor[netconn.Unix](),
	} {
		for i := range of.NumMethod() {
			if m := of.Method(i); !hasMethod(all, m.Name) {
				t.Errorf("%v has no method %s, %v has it", all, m.Name, of)
			}
		}
	}
}

func hasMethod(t reflect.Type, name string) bool {
	_, ok := t.MethodByName(name)
	return ok
}

// A taker keeps the reader that WriteTo passes to its ReadFrom.
type taker struct{ got io.Reader }

func (w *taker) Write(p []byte) (int, error) { return len(p), nil }
func (w *taker) ReadFrom(r io.Reader) (int64, error) {
	w.got = r
	return 0, nil
}

// embedded has a Read of its own above a descriptor.
type embedded struct{ *net.TCPConn }

func (embedded) Read([]byte) (int, error) { return 0, io.EOF }

// The kernel copies from the types of net and os, also if their WriteTo has put them into a struct. It copies from no other
// type.
func TestSourcesAreThoseOfNet(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	passed := func(w io.WriterTo) io.Reader {
		to := new(taker)
		if _, err := w.WriteTo(to); err != nil {
			t.Fatal(err)
		}
		return to.got
	}
	tcp := nc.(*net.TCPConn)
	for r, want := range map[io.Reader]netconn.Source{
		tcp: netconn.Socket, passed(tcp): netconn.Socket, file: netconn.File, passed(file): netconn.File,
		embedded{tcp}: netconn.Unknown, strings.NewReader("x"): netconn.Unknown,
	} {
		if got := netconn.SourceOf(r); got != want {
			t.Errorf("%T is of kind %d, want %d", r, got, want)
		}
	}
}

// The kernel copies from a unix socket only if the socket is a stream. A socket with message boundaries is read message by
// message.
func TestSourcesOfUnixAreStreams(t *testing.T) {
	for network, want := range map[string]netconn.Source{"unix": netconn.Socket, "unixpacket": netconn.Unknown} {
		ln, err := net.Listen(network, filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Logf("no %s here: %v", network, err)
			continue
		}
		defer ln.Close()
		nc, err := net.Dial(network, ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if got := netconn.SourceOf(nc); got != want {
			t.Errorf("%s is of kind %d, want %d", network, got, want)
		}
	}
}

// Only a file on a disk is regular. A Read of a device or a pipe may have to wait, and nothing is known about a reader without
// Stat.
func TestRegularFilesAreOnDisks(t *testing.T) {
	open := func(name string) *os.File {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	pipe, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer end.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r    io.Reader
		want bool
	}{
		"a file": {open(self), true}, "a device": {open(os.DevNull), false}, "a pipe": {pipe, false}, "a string": {strings.NewReader("x"), false},
	} {
		if got := netconn.Regular(c.r); got != c.want {
			t.Errorf("%s is regular: %v", name, got)
		}
	}
}
