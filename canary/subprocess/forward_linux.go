package subprocess

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/request"
)

// ServeHTTP passes a request on to the process.
func (in *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !expressible(r) { // no fault of the process
		http.Error(w, "the method, the URL or the Host has a character that HTTP/1.1 does not allow", http.StatusBadRequest)
		return
	}
	c, err := in.conns.send(r)
	if err != nil {
		in.lost(w, r, nil, err, true)
		return
	}
	up := newUpload(c, r)
	res, begun, err := final(w, r, c, up)
	switch {
	case err != nil:
		c.discard()
		in.lost(w, r, up, err, !begun)
	case res.StatusCode == http.StatusSwitchingProtocols:
		in.switchProtocols(w, r, c, up, res)
	default:
		in.answer(w, r, c, up, res)
	}
}

// final returns the header of the final answer. Before, it passes on the informational ones, and sends the body when the process
// is ready for the body. begun is false after an error, if the process has not announced that the request begins (see announces).
func final(w http.ResponseWriter, r *http.Request, c *conn, up *upload) (res *http.Response, begun bool, err error) {
	begun = !announces(r.Method)
	for {
		res, err := c.answer(r)
		switch {
		case err != nil || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols:
			return res, begun, err
		case res.StatusCode == http.StatusProcessing && !begun:
			begun = true
		case res.StatusCode == http.StatusContinue && up != nil && up.waiting:
			up.start() // the first Read tells the client to go on
		default:
			inform(w, res)
		}
	}
}

// inform passes on an informational answer. The final answer has another header.
func inform(w http.ResponseWriter, res *http.Response) {
	header := w.Header()
	own := header.Clone()
	for name, values := range res.Header {
		header[name] = values
	}
	w.WriteHeader(res.StatusCode)
	clear(header)
	for name, values := range own {
		header[name] = values
	}
}

// lost answers a request without an answer of the process.
func (in *instance) lost(w http.ResponseWriter, r *http.Request, up *upload, err error, unserved bool) {
	if cause := r.Context().Err(); cause != nil { // the client has gone, or the time of the request is over
		status := http.StatusBadGateway
		if errors.Is(cause, context.DeadlineExceeded) {
			status = http.StatusGatewayTimeout
		}
		fail(w, r, up, status)
		return
	}
	in.opts.Logger.Debug("subprocess: a request was not answered", slog.String("name", in.opts.Name), slog.Int("pid", in.pid()),
		slog.Bool("unserved", unserved), slog.Any("err", err))
	switch {
	case canary.GiveUp(w, unserved): // a Read of the body that is under way is for the stable handler
	case !unserved && in.conns.serves(r.Context()):
		panic(http.ErrAbortHandler) // the process lives, so its handler has panicked
	default:
		fail(w, r, up, http.StatusBadGateway)
	}
}

// away answers a request while there is no process.
func away(w http.ResponseWriter) {
	if !canary.GiveUp(w, true) {
		http.Error(w, notAvailable, http.StatusBadGateway)
	}
}

const notAvailable = "the handler is not available"

// fail answers with an error, and closes the connection of the client if the body of the request was not read.
func fail(w http.ResponseWriter, r *http.Request, up *upload, status int) {
	ended, all := up.ended()
	if !all {
		w.Header()["Connection"] = []string{"close"}
	}
	control := http.NewResponseController(w)
	if !ended {
		_ = control.EnableFullDuplex()
	}
	http.Error(w, notAvailable, status)
	up.end(control, r, true)
}

// end ends the reading of the body after the answer, and before ServeHTTP returns. closes says whether the server closes the
// connection of the client, so nobody needs the rest of the body.
func (u *upload) end(control *http.ResponseController, r *http.Request, closes bool) {
	if ended, _ := u.ended(); ended {
		return
	}
	if errors.Is(control.Flush(), request.ErrDropped) {
		return // a Read of the body that is under way is for the stable handler
	}
	if closes || r.ProtoMajor > 1 {
		_ = control.SetReadDeadline(time.Time{}.Add(1)) // long over
	}
	<-u.done
}

// answer passes an answer on.
func (in *instance) answer(w http.ResponseWriter, r *http.Request, c *conn, up *upload, res *http.Response) {
	whole := false
	defer func() {
		if whole && !res.Close && up.leavesNothing() {
			in.conns.put(c)
		} else {
			c.discard()
		}
	}()
	copyHeader(w.Header(), r, res)
	control := http.NewResponseController(w)
	if ended, _ := up.ended(); !ended {
		_ = control.EnableFullDuplex() // or the server would read the body too, before it sends the header
		if r.ProtoMajor > 1 {
			delete(w.Header(), "Connection") // it would end the other requests of the client
		}
	}
	w.WriteHeader(res.StatusCode)
	if err := pass(w, c, res, control); err != nil {
		panic(http.ErrAbortHandler) // the client must not take half of the answer for all of it
	}
	whole = true
	copyTrailers(w.Header(), res)
	if ended, _ := up.ended(); !ended {
		if res.Close {
			c.Close() // ends a Write of the body
		}
		up.end(control, r, res.Close)
	}
}

// copyHeader sets the header of an answer. The server adds nothing to the header.
func copyHeader(header http.Header, r *http.Request, res *http.Response) {
	for name, values := range res.Header {
		if name == "Set-Cookie" || name == "Vary" { // a middleware in the host may have some of its own
			values = slices.Concat(header[name], values)
		}
		header[name] = values
	}
	for _, name := range []string{"Content-Type", "Date"} {
		if res.Header[name] == nil {
			header[name] = nil
		}
	}
	switch {
	case !res.Close || res.StatusCode == http.StatusSwitchingProtocols:
	case res.ContentLength < 0 && res.TransferEncoding == nil && res.Body != http.NoBody:
		header["Transfer-Encoding"] = []string{"identity"} // the end of the connection ends the body
	case !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "close"): // or the server of the host does the same for the client
		header["Connection"] = append(header["Connection"], "close") // ReadResponse has removed the line
	}
	for name := range res.Trailer {
		header["Trailer"] = append(header["Trailer"], name)
	}
}

// copyTrailers sets the trailers of an answer.
func copyTrailers(header http.Header, res *http.Response) {
	for name, values := range res.Trailer {
		if !slices.Contains(header["Trailer"], name) {
			name = http.TrailerPrefix + name // it was not announced
		}
		header[name] = values
	}
}

// pass copies the body of an answer. What the process has sent so far is sent to the client before pass waits for more.
func pass(w io.Writer, c *conn, res *http.Response, control *http.ResponseController) error {
	if res.Body == http.NoBody {
		return nil
	}
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	flushed := false
	for {
		if c.in.Buffered() == 0 {
			_ = control.Flush()
			flushed = true
		}
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if res.ContentLength < 0 && !flushed {
		_ = control.Flush() // or the server would count a short body, and would not send it in chunks
	}
	return nil
}
