package frame

// A WebSocket follows what a server writes on a connection that becomes a WebSocket: the answer of HTTP that switches
// protocols, and then frames, RFC 6455 section 5.2. The zero value stands before the answer.
type WebSocket struct {
	head   [10]byte
	have   int    // how many bytes of head have come; 0 between frames
	left   uint64 // how many bytes of the payload are to come
	more   bool   // a message has frames to come
	begun  bool   // the answer of HTTP was written
	answer bool   // the header of the answer is being written
	line   int    // how many bytes of the end of the header have come
}

// Answered notes that the answer of HTTP was written in another way: Next gets frames only. Call it before the first Next.
func (m *WebSocket) Answered() { m.begun = true }

// Next takes the bytes of p up to the end of the current frame, or of the answer of HTTP. It returns how many bytes it took,
// and whether they reach the end of a frame. Call it again with the rest of p.
func (m *WebSocket) Next(p []byte) (n int, end bool) {
	if m.answer || !m.begun && m.have == 0 && len(p) > 0 && p[0] == 'H' { // no frame begins so
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
	if m.head[0]&0x08 == 0 { // control frames may come within a message
		m.more = m.head[0]&0x80 == 0
	}
	return n, true
}

// header takes bytes up to the empty line.
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

// need is how long the header of the current frame is, as far as its bytes show. A server does not mask.
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

// length is the length of the payload of the current frame.
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

// Between reports whether the server may write a frame of its own after the bytes that Next took: after the answer of HTTP,
// and not within a message, which may be many frames long.
func (m *WebSocket) Between() bool { return m.begun && m.have == 0 && !m.answer && !m.more }

// Closing reports whether the frame whose end Next has just reported is a close.
func (m *WebSocket) Closing() bool { return m.head[0]&0x0f == 0x08 }
