package grpccanary

import (
	"context"
	"net/http"
	"net/url"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/request"
)

// A call is the ResponseWriter of a call. The canary.Router passes statuses on to the call, but no status of a dropped attempt.
type call struct {
	url       url.URL
	committed atomic.Bool // an informational status has come
	answerer
}

// An answerer is a unary call or a stream. Its method answer is called once for each attempt, in the goroutine of the call.
type answerer interface {
	answer(ctx context.Context, a attempt) error
}

// Header returns a header that nobody sends.
func (c *call) Header() http.Header { return http.Header{} }

// Write drops p.
func (c *call) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader notes an informational status.
func (c *call) WriteHeader(status int) {
	if status < http.StatusOK {
		c.committed.Store(true)
	}
}

// callOf returns the call in w, which the canary.Router may have wrapped, or nil if there is none.
func callOf(w http.ResponseWriter) *call {
	for {
		switch v := w.(type) {
		case *call:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return nil
		}
	}
}

// An attempt is the run of the handler of a side.
type attempt struct {
	call *call
	w    http.ResponseWriter // of the canary.Router
	side canary.Side
}

// droppable reports whether the canary.Router may drop the answer of the attempt.
func (a attempt) droppable() bool {
	wr := request.WriterOf(a.w)
	return wr != nil && wr.IsTry()
}

// commit makes the answer stand, and returns false if the answer was dropped before. The canary.Router rescues nothing after an
// informational status, and the writer of a dropped attempt passes no status on.
func (a attempt) commit() bool {
	a.w.WriteHeader(http.StatusEarlyHints)
	return a.call.committed.Load()
}

// answering returns the handler of a side for the canary.Router.
func answering(side canary.Side) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := callOf(w)
		if c == nil {
			http.Error(w, "grpccanary: this is no call", http.StatusNotImplemented)
			return
		}
		w.WriteHeader(statusOf(c.answer(r.Context(), attempt{c, w, side})))
	}
}

// describe adds the metadata and the peer of a call to a request.
func describe(ctx context.Context, r *http.Request) {
	md, _ := metadata.FromIncomingContext(ctx)
	if host := md[":authority"]; len(host) > 0 {
		r.Host = host[0]
	}
	delete(md, ":authority") // md is a copy
	r.Header = make(http.Header, len(md))
	for name, values := range md {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	if p.Addr != nil {
		r.RemoteAddr = p.Addr.String()
	}
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		r.TLS = &info.State
	}
}

// statuses are the HTTP statuses that the comments of google.rpc.Code name.
var statuses = [...]int{
	codes.OK: 200, codes.Canceled: 499, codes.Unknown: 500, codes.InvalidArgument: 400, codes.DeadlineExceeded: 504,
	codes.NotFound: 404, codes.AlreadyExists: 409, codes.PermissionDenied: 403, codes.ResourceExhausted: 429,
	codes.FailedPrecondition: 400, codes.Aborted: 409, codes.OutOfRange: 400, codes.Unimplemented: 501, codes.Internal: 500,
	codes.Unavailable: 503, codes.DataLoss: 500, codes.Unauthenticated: 401,
}

// statusOf returns the HTTP status for the error of a handler. The error of a context is Canceled or DeadlineExceeded, as for a
// grpc.Server.
func statusOf(err error) int {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	if code := st.Code(); int(code) < len(statuses) {
		return statuses[code]
	}
	return http.StatusInternalServerError
}
