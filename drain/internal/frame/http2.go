package frame

// Types of HTTP/2 frames, RFC 9113 section 6.
const (
	// Headers is the type of a frame that opens a stream or ends it with trailers.
	Headers = 1
	// GoAway is the type of the frame that announces the end of a connection.
	GoAway = 7

	pushPromise  = 5
	ping         = 6
	continuation = 9
)

// Flags of HTTP/2 frames, and the length of their header.
const (
	flagAck        = 1
	flagEndHeaders = 4

	headLength = 9
)

const (
	// question is the payload of our PING. A client answers a PING with the same payload, so an answer with another payload
	// belongs to a PING of somebody else.
	question = "\x8amidair\x8a"
	// FirstGoAway is a GOAWAY that refuses no stream, and a PING. The client has read both when it answers the PING.
	FirstGoAway = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00" +
		"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + question
	// Hint is GOAWAY as a client sends it. A net/http that reads it finishes the connection: it sends a GOAWAY with the last
	// stream that it has seen, and closes the connection a second after the end of the last stream.
	Hint = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// An HTTP2 follows one direction of an HTTP/2 connection. The zero value stands before the first frame, which is SETTINGS;
// the preface of a client is not part of the frames.
type HTTP2 struct {
	head  [headLength]byte // of the current frame, or of the last one
	tail  [8]byte          // the beginning of the payload of a PING
	have  int              // how many bytes of head have come; 0 between frames
	left  int              // how many bytes of the payload are to come
	block bool             // a block of headers is not complete: nothing may be put in between
	begun bool             // a frame has ended: the first one has to be SETTINGS
}

// Next takes the bytes of p up to the end of the current frame. It returns how many bytes it took, and whether they reach
// the end of the frame. Call it again with the rest of p.
func (f *HTTP2) Next(p []byte) (n int, end bool) {
	if f.have < headLength {
		n = copy(f.head[f.have:], p)
		f.have += n
		if f.have < headLength {
			return n, false
		}
		f.left = f.size()
	}
	m := min(f.left, len(p)-n)
	if f.Kind() == ping {
		if at := f.size() - f.left; at < len(f.tail) {
			copy(f.tail[at:], p[n:n+m])
		}
	}
	f.left -= m
	if f.left > 0 {
		return n + m, false
	}
	f.have, f.begun = 0, true
	switch f.Kind() {
	case Headers, pushPromise, continuation:
		f.block = !f.has(flagEndHeaders)
	}
	return n + m, true
}

// Between reports whether a frame may be written after the bytes that Next took: after the first frame, between two frames,
// and not within a block of headers, which may be many frames long.
func (f *HTTP2) Between() bool { return f.begun && f.have == 0 && !f.block }

// Kind is the type of the frame whose end Next has just reported.
func (f *HTTP2) Kind() byte { return f.head[3] }

// Pong reports whether the frame whose end Next has just reported answers the PING of [FirstGoAway].
func (f *HTTP2) Pong() bool {
	return f.Kind() == ping && f.has(flagAck) && f.size() == len(question) && string(f.tail[:]) == question
}

func (f *HTTP2) size() int          { return int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2]) }
func (f *HTTP2) has(flag byte) bool { return f.head[4]&flag != 0 }
