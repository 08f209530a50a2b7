package frame

// Types of HTTP/2 frames, RFC 9113 section 6.
const (
	// Headers is the type of a frame that opens a stream, or that ends a stream with trailers.
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
	// question is the payload of the PING in FirstGoAway. A client answers a PING with the same payload, so an answer with
	// another payload belongs to a PING of net/http.
	question = "\x8amidair\x8a"
	// FirstGoAway is a GOAWAY that refuses no stream, and a PING. The client has read both when it answers the PING.
	FirstGoAway = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00" +
		"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + question
	// Hint is a GOAWAY as a client sends it. When net/http reads Hint, it ends the connection: net/http sends a GOAWAY with
	// the number of the last stream that it has seen, and closes the connection a second after the end of the last stream.
	Hint = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// An HTTP2 follows the frames in a single direction of an HTTP/2 connection. A new HTTP2 expects the first frame, which is
// SETTINGS; do not pass the preface of a client to Next.
type HTTP2 struct {
	head  [headLength]byte // the header of the current frame; between two frames, the header of the last frame
	tail  [8]byte          // the first eight bytes of the payload of the last PING
	have  int              // how many bytes of head have come; 0 between frames
	left  int              // how many bytes of the payload have not come
	block bool             // the current header block is not complete: no other frame may be written into the block
	begun bool             // the first frame, which is SETTINGS, has ended: no other frame may be written before
}

// Next takes the bytes of p up to the end of the current frame. n is how many bytes Next took, and end reports whether the
// frame has ended. Call Next again with the rest of p.
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

// Between reports whether a frame may be written after the bytes that Next took. It returns false before the end of the first
// frame, in the middle of a frame, and in the middle of a header block, which may consist of many frames.
func (f *HTTP2) Between() bool { return f.begun && f.have == 0 && !f.block }

// Kind returns the type of the frame whose end Next has just reported.
func (f *HTTP2) Kind() byte { return f.head[3] }

// Pong reports whether the frame whose end Next has just reported answers the PING of [FirstGoAway].
func (f *HTTP2) Pong() bool {
	return f.Kind() == ping && f.has(flagAck) && f.size() == len(question) && string(f.tail[:]) == question
}

func (f *HTTP2) size() int          { return int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2]) }
func (f *HTTP2) has(flag byte) bool { return f.head[4]&flag != 0 }
