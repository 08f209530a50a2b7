package subprocess_test

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawly sends a GET over HTTP/2 with any pseudo header, and returns the status of the answer.
func rawly(t *testing.T, addr, authority, path string) (status string) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", authority}, {":path", path}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			return h.PseudoValue("status")
		}
	}
}

// What HTTP/2 lets a client send, and HTTP/1.1 does not, is no fault of the process: it would let a client take back a canary. A space in
// the URL is escaped.
func TestWhatOnlyHTTP2AllowsIsNoFaultOfTheProcess(t *testing.T) {
	srv, _ := behind(t, "HTTP/2", passing(t, "mirror"))
	for _, row := range []struct{ authority, path, want string }{
		{"a", "/a b", "200"}, {"a", "/?q=a b", "200"}, {"a b", "/", "400"}, {"a\tb", "/", "400"}, {"a", "/a", "200"},
	} {
		if got := rawly(t, srv.Listener.Addr().String(), row.authority, row.path); got != row.want {
			t.Errorf("%q%q: %s, want %s", row.authority, row.path, got, row.want)
		}
	}
}
