package drain_test

import (
	"bytes"
	"testing"

	"github.com/midair-go/midair/drain"
)

const pushPromise = 5

// A survey describes the frames in a stream of bytes of HTTP/2.
type survey struct {
	borders map[int]bool // the offsets where a frame may be put in
	used    bool         // there is a header of a stream
	pong    bool         // there is the answer to our PING
}

func surveyOf(stream []byte) survey {
	s, open := survey{borders: map[int]bool{}}, false
	for at := 0; len(stream)-at >= 9; {
		size, kind, flags := int(stream[at])<<16|int(stream[at+1])<<8|int(stream[at+2]), stream[at+3], stream[at+4]
		at += 9
		if size > len(stream)-at {
			return s
		}
		switch kind {
		case headers, pushPromise, continuation:
			open = flags&endHeaders == 0
		case ping:
			s.pong = s.pong || flags&ack != 0 && string(stream[at:at+size]) == question
		}
		s.used = s.used || kind == headers
		at += size
		s.borders[at] = !open
	}
	return s
}

// question is the payload of our PING.
var question = drain.FirstGoAway[len(drain.FirstGoAway)-8:]

// All bytes that a client sends over HTTP/2 reach net/http unchanged, wherever they are cut. Between them net/http gets one
// more frame, the Hint. It comes at the first border between two frames at which net/http reads after Learn.
func FuzzHTTP2Read(f *testing.F) {
	hello := frame{kind: settings, payload: "123456"}.String()
	pong := frame{kind: ping, flags: ack, payload: question}.String()
	f.Add([]byte(hello+get(1, "/one").String()+pong+get(3, "/two").String()), []byte{14, 0, 40}, byte(1))
	f.Add([]byte(hello+frame{headers, 0, 1, "a"}.String()+frame{continuation, endHeaders, 1, ""}.String()), []byte{14, 9, 8}, byte(2))
	f.Add([]byte(hello+pong+pong), []byte{14, 16, 16}, byte(0))
	f.Add([]byte(hello+frame{kind: ping, payload: question}.String()), []byte{14, 16}, byte(9))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, when byte) {
		below := &script{pieces: pieces(stream, cuts), when: int(when)}
		c := drain.Told(below)
		below.do = c.Learn
		var got []byte
		size := func(i int) int { // of the buffer of net/http
			if i < len(cuts) {
				return 1 + int(cuts[len(cuts)-1-i])
			}
			return 64
		}
		for i, ended := 0, false; !ended; i++ {
			buf := make([]byte, size(i))
			n, err := c.Read(buf)
			got = append(got, buf[:n]...)
			ended = err != nil
		}
		s, want := surveyOf(stream), string(stream)
		for _, at := range below.stops[min(int(when), len(below.stops)):] {
			if s.borders[at] {
				want = want[:at] + drain.Hint + want[at:]
				break
			}
		}
		if string(got) != want {
			t.Errorf("net/http reads %q, want %q", got, want)
		}
		if c.Used() != s.used || c.Known() != s.pong {
			t.Errorf("used %v, known %v, want %v and %v", c.Used(), c.Known(), s.used, s.pong)
		}
	})
}

// The preface of a client is recognized wherever it is cut, and no byte after the preface is read. A drain does not wait for
// the rest of a preface.
func FuzzPreface(f *testing.F) {
	f.Add([]byte(greeting+frame{kind: settings}.String()), []byte{}, byte(9))
	f.Add([]byte(greeting), []byte{0, 15, 3}, byte(255))
	f.Add([]byte(greeting), []byte{0, 15, 3}, byte(2))
	f.Add([]byte(greeting), []byte{22}, byte(255))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte{5}, byte(255))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, when byte) {
		below := &script{pieces: pieces(stream, cuts), when: int(when)}
		c, learned := drain.Told(below), false
		below.do = func() { learned = true; c.Learn() }
		got := c.Greet()
		if want := bytes.HasPrefix(stream, []byte(greeting)) && !learned; got != want {
			t.Errorf("the preface is known: %v, want %v", got, want)
		}
		if below.at > len(greeting) {
			t.Errorf("%d bytes were taken", below.at)
		}
	})
}
