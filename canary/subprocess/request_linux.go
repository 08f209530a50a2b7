package subprocess

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/midair-go/midair/internal/guard"
)

// question is a request of the host itself, without fromHeader. The process answers such a request without its handler.
const question = "GET / HTTP/1.1\r\nHost: subprocess\r\n\r\n"

// ownLines are the header lines of writeRequest itself. All other lines go to the process as the client has sent them, also the
// lines about the connection of the client: a handler in the host would see these lines, too.
var ownLines = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, fromHeader: true, uriHeader: true,
}

// expressible reports whether HTTP/1.1 can express a request. HTTP/2 lets a client send a Host with a space, for example.
func expressible(r *http.Request) bool {
	target, _ := targetOf(r)
	return isPlain(target) && isPlain(r.Host) && isPlain(r.Method) && isPlain(r.Proto)
}

// writeRequest writes a request without its body.
func writeRequest(b *bytes.Buffer, r *http.Request) {
	target, same := targetOf(r)
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	writeAll(b, method, " ", target, " HTTP/1.1\r\nHost: ", r.Host, "\r\n", fromHeader, ": ", r.Proto, " ", scheme, " ")
	writeValue(b, r.RemoteAddr)
	if !same && r.RequestURI != "" {
		writeAll(b, uriHeader, ": ")
		writeValue(b, r.RequestURI)
	}
	writeFraming(b, r)
	_ = r.Header.WriteSubset(b, ownLines) // a buffer takes everything
	b.WriteString("\r\n")
}

func writeAll(b *bytes.Buffer, parts ...string) {
	for _, s := range parts {
		b.WriteString(s)
	}
}

// writeValue writes the value of a header line, and its end.
func writeValue(b *bytes.Buffer, value string) {
	if !httpguts.ValidHeaderFieldValue(value) {
		value = ""
	}
	writeAll(b, value, "\r\n")
}

// writeFraming writes the lines about the length of the body.
func writeFraming(b *bytes.Buffer, r *http.Request) {
	switch length := wireLength(r); {
	case length < 0:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case length > 0 || r.Header["Content-Length"] != nil:
		b.WriteString("Content-Length: ")
		b.Write(strconv.AppendInt(b.AvailableBuffer(), length, 10))
		b.WriteString("\r\n")
	}
	for name := range r.Trailer {
		if httpguts.ValidTrailerHeader(name) {
			writeAll(b, "Trailer: ", name, "\r\n")
		}
	}
}

// wireLength is lengthOf, but -1 also for a body with trailers, for which HTTP/1.1 needs chunks.
func wireLength(r *http.Request) int64 {
	length := lengthOf(r)
	if length > 0 && len(r.Trailer) > 0 {
		return -1
	}
	return length
}

// lengthOf returns how long the body of a request is; -1 if the length is unknown.
func lengthOf(r *http.Request) int64 {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return 0
	case r.ContentLength == 0 && r.Header["Content-Length"] == nil:
		return -1 // the request is not from a server: http.NewRequest does not know the length of the body
	}
	return r.ContentLength
}

// isPlain reports whether s can be a part of the first line of a request.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// targetOf returns the target of a request, from which the server of the process makes the same URL. same is true if the target
// is the RequestURI; a middleware may have changed the URL only.
func targetOf(r *http.Request) (target string, same bool) {
	u := r.URL
	path, query, hasQuery := strings.Cut(r.RequestURI, "?")
	plain := isPlain(r.RequestURI) // HTTP/2 lets a client send spaces
	if plain && u.Scheme == "" && u.Host == "" && u.Opaque == "" && path != "" && path == u.EscapedPath() &&
		query == u.RawQuery && u.ForceQuery == (hasQuery && query == "") {
		return r.RequestURI, true
	}
	if r.Method == http.MethodConnect && u.Host != "" && u.Path == "" {
		return u.Host, u.Host == r.RequestURI
	}
	if parsed, err := url.ParseRequestURI(r.RequestURI); plain && err == nil && reflect.DeepEqual(parsed, u) {
		return r.RequestURI, true
	}
	local := url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery}
	return strings.ReplaceAll(local.RequestURI(), " ", "%20"), false
}

// An upload is the body of a request on the way to the process.
type upload struct {
	c       *conn
	r       *http.Request
	waiting bool          // the process has not asked for the body yet: Expect: 100-continue
	done    chan struct{} // closed when nothing reads the body any more; nil before start
	err     error         // written before done is closed
	sent    int64         // bytes of the body, as err
}

// newUpload begins to send the body of a request; without a body, newUpload returns nil.
func newUpload(c *conn, r *http.Request) *upload {
	if lengthOf(r) == 0 {
		return nil
	}
	u := &upload{c: c, r: r, waiting: httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")}
	if !u.waiting {
		u.start()
	}
	return u
}

// start begins to send.
func (u *upload) start() {
	u.waiting, u.done = false, make(chan struct{})
	go u.run() // ends with the body, the connection, or a Read of the body that the end of the request ends
}

func (u *upload) run() {
	defer close(u.done)
	if u.err = guard.Call(u.send); u.err != nil { // the body may be that of a middleware, whose panic must not end the host
		_ = u.c.CloseWrite() // the handler finds that the body ends too early, and can answer
	}
}

// ended reports whether nothing reads the body, and whether the process has got all of the body.
func (u *upload) ended() (ended, all bool) {
	switch {
	case u == nil:
		return true, true
	case u.done == nil:
		return true, false
	}
	select {
	case <-u.done:
		return true, u.err == nil
	default:
		return false, false
	}
}

// maxUnread is how much of the body the server of the process reads after the handler has answered. If more is left, it closes the
// connection, and does not always say so in the header: not after EnableFullDuplex. The value is that of net/http.
const maxUnread = 256 << 10

// leavesNothing reports whether the process has got all of the body, and reads all of the body whatever its handler does: a connection
// can have another request then.
func (u *upload) leavesNothing() bool {
	_, all := u.ended()
	return all && (u == nil || u.sent < maxUnread)
}

const chunkHead = len("ffff\r\n")

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// send sends the body.
func (u *upload) send() error {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	left := wireLength(u.r)
	chunked := left < 0
	for chunked || left > 0 {
		room := buf[chunkHead : len(buf)-len("\r\n")]
		if !chunked {
			room = room[:min(int64(len(room)), left)]
		}
		n, err := u.r.Body.Read(room)
		left, u.sent = left-int64(n), u.sent+int64(n)
		if n > 0 {
			part := room[:n]
			if chunked {
				part = asChunk(buf, n)
			}
			if _, err := u.c.Write(part); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF && (chunked || left == 0):
			return u.sendTrailers(chunked)
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return nil
}

// asChunk makes a chunk of the n bytes in buf behind the place for the head of the chunk.
func asChunk(buf *[32 << 10]byte, n int) []byte {
	var head [chunkHead]byte
	h := append(strconv.AppendInt(head[:0], int64(n), 16), "\r\n"...)
	at := chunkHead - len(h)
	copy(buf[at:], h)
	end := chunkHead + n
	end += copy(buf[end:], "\r\n")
	return buf[at:end]
}

// sendTrailers ends a body in chunks.
func (u *upload) sendTrailers(chunked bool) error {
	if !chunked {
		return nil
	}
	var b bytes.Buffer
	b.WriteString("0\r\n")
	if err := u.r.Trailer.Write(&b); err != nil {
		return err
	}
	b.WriteString("\r\n")
	_, err := u.c.Write(b.Bytes())
	return err
}
