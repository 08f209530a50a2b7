package frame

const (
	// prefaceLine is the beginning of the preface of HTTP/2. No request of HTTP/1 begins with this line. net/http also
	// recognizes HTTP/2 by this line.
	prefaceLine = "PRI * HTTP/2.0"
	// ClientPreface is what a client of HTTP/2 sends before its first frame, RFC 9113 section 3.4.
	ClientPreface = prefaceLine + "\r\n\r\nSM\r\n\r\n"
)

// A Preface compares the first bytes of a connection with the preface of HTTP/2. The zero value expects the first byte.
type Preface struct {
	have  int  // how many bytes of prefaceLine have come
	other bool // a byte has come that differs from the byte of prefaceLine at the same position
}

// Next takes the bytes of p, and reports whether all of prefaceLine has come: then the connection is HTTP/2.
func (f *Preface) Next(p []byte) bool {
	n := min(len(p), len(prefaceLine)-f.have)
	f.other = f.other || string(p[:n]) != prefaceLine[f.have:f.have+n]
	if !f.other {
		f.have += n
	}
	return f.have == len(prefaceLine)
}
