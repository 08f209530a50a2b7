package netconn_test

import (
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/midair-go/midair/drain/internal/netconn"
)

// The interfaces have every exported method of the types of package net, also those that a later Go adds.
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

// A taker of a copy keeps the reader that WriteTo passes on.
type taker struct{ got io.Reader }

func (w *taker) Write(p []byte) (int, error) { return len(p), nil }
func (w *taker) ReadFrom(r io.Reader) (int64, error) {
	w.got = r
	return 0, nil
}

// embedded has a Read of its own above a descriptor.
type embedded struct{ *net.TCPConn }

func (embedded) Read([]byte) (int, error) { return 0, io.EOF }

// The kernel copies from the types of net and os, also in the form that their WriteTo passes on, and from no other.
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
	if netconn.Regular(file) {
		t.Errorf("%s is taken for a regular file", os.DevNull)
	}
}
