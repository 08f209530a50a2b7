package frame

// A WebSocket follows what a server writes on a connection that becomes a WebSocket: first the HTTP response with status 101,
// then frames, RFC 6455 section 5.2. The zero value expects the response.
type WebSocket struct {
	head   [10]byte // the header of the current frame
	have   int      // how many bytes of head have come; 0 between frames
	left   uint64   // how many bytes of the payload have not come
	more   bool     // the last frame of the current message has not come
	begun  bool     // the HTTP response has ended
	answer bool     // the HTTP response has begun and has not ended
	line   int      // how many bytes of the end of the HTTP response, "\r\n\r\n", have come
}

// Answered notes that the HTTP response (status 101) was not passed to Next, so that Next expects frames only. Call Answered
// before the first Next.
func (m *WebSocket) Answered() { m.begun = true }

// Next takes the bytes of p up to the end of the current frame, or of the HTTP response. n is how many bytes Next took, and end
// reports whether a frame has ended. Call Next again with the rest of p.
func (m *WebSocket) Next(p []byte) (n int, end bool) {
	if m.answer || !m.begun && m.have == 0 && len(p) > 0 && p[0] == 'H' { // no frame of a server begins with 'H'
		return m.header(p), false
	}
	for m.have < m.need() {
		if n == len(p) {
			return n, false
		}
		m.head[m.have] = p[n]
		m.have++
		n++
		if m.have == m.need() {
			m.left = m.length()
		}
	}
	skip := min(m.left, uint64(len(p)-n))
	m.left -= skip
	n += int(skip)
	if m.left > 0 {
		return n, false
	}
	m.have = 0
	if m.head[0]&0x08 == 0 { // a control frame may come between two frames of a message, so it does not change m.more
		m.more = m.head[0]&0x80 == 0
	}
	return n, true
}

// header takes the bytes of p up to the end of the HTTP response, and returns how many.
func (m *WebSocket) header(p []byte) int {
	const end = "\r\n\r\n"
	m.answer = true
	for i, b := range p {
		switch {
		case b == end[m.line]:
			m.line++
		case b == '\r':
			m.line = 1
		default:
			m.line = 0
		}
		if m.line == len(end) {
			m.answer, m.begun, m.line = false, true, 0
			return i + 1
		}
	}
	return len(p)
}

// need returns the length of the header of the current frame. The second byte says how long the header is. Before the second
// byte has come, need returns 2. The header has no masking key, since a server does not mask.
func (m *WebSocket) need() int {
	if m.have < 2 {
		return 2
	}
	switch m.head[1] & 0x7f {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

// length returns the length of the payload of the current frame.
func (m *WebSocket) length() (n uint64) {
	short := uint64(m.head[1] & 0x7f)
	if short < 126 {
		return short
	}
	for _, b := range m.head[2:m.need()] {
		n = n<<8 | uint64(b)
	}
	return n
}

// Between reports whether the server may write a frame of its own after the bytes that Next took. It returns false before the
// end of the HTTP response, in the middle of a frame, and in the middle of a message, which may consist of many frames.
func (m *WebSocket) Between() bool { return m.begun && m.have == 0 && !m.answer && !m.more }

// Closing reports whether the frame whose end Next has just reported is a close.
func (m *WebSocket) Closing() bool { return m.head[0]&0x0f == 0x08 }
