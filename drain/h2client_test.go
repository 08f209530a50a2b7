package drain_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"testing"
)

// A frame of HTTP/2.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     string
}

const (
	data, headers, settings, ping, goAway, windowUpdate, continuation = 0, 1, 4, 6, 7, 8, 9
	endStream, ack, endHeaders                                        = 1, 1, 4

	greeting = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

func (f frame) String() string {
	n := len(f.payload)
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), f.kind, f.flags}
	return string(binary.BigEndian.AppendUint32(head, f.stream)) + f.payload
}

func readFrame(r io.Reader) (f frame, err error) {
	var head [9]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	body := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	_, err = io.ReadFull(r, body)
	return frame{head[3], head[4], binary.BigEndian.Uint32(head[5:]), string(body)}, err
}

// last returns the number of the last stream in a GOAWAY.
func (f frame) last() uint32 { return binary.BigEndian.Uint32([]byte(f.payload)) }

// An h2client reads and writes single frames of HTTP/2, so that the test decides when the client answers.
type h2client struct{ *client }

// h2 says hello on a connection.
func h2(c *client) h2client {
	c.t.Helper()
	c.send(greeting + frame{kind: settings}.String())
	return h2client{c}
}

// open opens a stream for a GET, with a path that is shorter than 127 bytes.
func (c h2client) open(stream uint32, path string) {
	c.t.Helper()
	c.send(get(stream, path).String())
}

// get returns the frame of a GET, in an encoding that does not need the dynamic table.
func get(stream uint32, path string) frame {
	return frame{headers, endStream | endHeaders, stream, fmt.Sprintf("\x82\x86\x04%c%s\x41\x01x", len(path), path)}
}

// await reads frames until a frame of the given kind comes that is no acknowledgement, and returns this frame. Meanwhile it
// acknowledges SETTINGS.
func (c h2client) await(kind byte) frame {
	c.t.Helper()
	for {
		f, err := readFrame(c.r)
		if err != nil {
			c.t.Fatalf("%v instead of a frame of kind %d", err, kind)
		}
		if f.kind == kind && (f.flags&ack == 0 || kind == data) {
			return f
		}
		if f.kind == settings && f.flags&ack == 0 {
			c.send(frame{kind: settings, flags: ack}.String())
		}
	}
}

// body reads the body of the answer on stream, which must be the only open stream.
func (c h2client) body(t testing.TB, stream uint32) (text string) {
	t.Helper()
	for {
		f := c.await(data)
		if f.stream != stream {
			t.Fatalf("data of stream %d, not of %d", f.stream, stream)
		}
		text += f.payload
		if f.flags&endStream != 0 {
			return text
		}
	}
}

// pong answers a PING.
func (c h2client) pong(f frame) {
	c.t.Helper()
	f.flags = ack
	c.send(f.String())
}
