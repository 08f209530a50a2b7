package drain

// Types and flags of HTTP/2 frames, RFC 9113 section 6.
const (
	frameData         = 0
	frameHeaders      = 1
	framePushPromise  = 5
	framePing         = 6
	frameGoAway       = 7
	frameContinuation = 9

	flagAck        = 1
	flagEndHeaders = 4

	frameHead = 9
)

// frames follows one direction of an HTTP/2 connection, so that it is known where a frame of our own may be put.
type frames struct {
	head  [frameHead]byte // of the current frame, or of the last one
	tail  [8]byte         // the beginning of the payload of a PING
	have  int             // how many bytes of head have come; 0 between frames
	left  int             // how many bytes of the payload are to come
	block bool            // a block of headers is not complete: nothing may be put in between
	begun bool            // a frame has ended: the first one has to be SETTINGS
}

// next takes bytes up to the end of the current frame, and reports whether that was reached.
func (f *frames) next(p []byte) (n int, end bool) {
	if f.have < frameHead {
		n = copy(f.head[f.have:], p)
		f.have += n
		if f.have < frameHead {
			return n, false
		}
		f.left = f.size()
	}
	m := min(f.left, len(p)-n)
	if f.kind() == framePing {
		if at := f.size() - f.left; at < len(f.tail) {
			copy(f.tail[at:], p[n:n+m])
		}
	}
	f.left -= m
	if f.left > 0 {
		return n + m, false
	}
	f.have, f.begun = 0, true
	switch f.kind() {
	case frameHeaders, framePushPromise, frameContinuation:
		f.block = !f.has(flagEndHeaders)
	}
	return n + m, true
}

// between reports whether a frame may be put in here.
func (f *frames) between() bool { return f.begun && f.have == 0 && !f.block }

func (f *frames) size() int          { return int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2]) }
func (f *frames) kind() byte         { return f.head[3] }
func (f *frames) has(flag byte) bool { return f.head[4]&flag != 0 }

// pong reports whether the last frame was the answer to our PING.
func (f *frames) pong() bool {
	return f.kind() == framePing && f.has(flagAck) && f.size() == len(question) && string(f.tail[:]) == question
}

const (
	// question is the payload of our PING. Who does not know it does not answer it: the connection is the client's own.
	question = "\x8amidair\x8a"
	// goodbye is GOAWAY for no stream at all and a PING, by whose answer it is known that the client has read both.
	goodbye = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00" +
		"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + question
	// hint is GOAWAY as a client sends it. It makes net/http finish this connection: its own GOAWAY with the last stream
	// that it has seen, and a second after the end of the last stream a close.
	hint = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)
