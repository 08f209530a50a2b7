package canary

import (
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/internal/request"
)

// A replay is the body of a request that two handlers may read, one after the other. It keeps what the first one reads.
type replay struct {
	src   io.ReadCloser // nil if the request has no body
	limit int

	mu      sync.Mutex
	more    sync.Cond // a Read for the first has ended
	kept    []byte
	over    bool // the first has read more than is kept
	claimed bool // the first may not read any more
	reading int  // how many Reads for the first are under way
}

func (b *replay) begin(src io.ReadCloser, limit int) {
	b.src, b.limit = src, limit
	b.more.L = &b.mu
}

// claim ends the reading of the first, and reports whether the second can read everything.
func (b *replay) claim() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claimed = b.claimed || !b.over
	return b.claimed
}

// keep notes what a Read for the first has got, and reports whether it may have that.
func (b *replay) keep(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading--
	b.more.Broadcast()
	if !b.claimed && len(b.kept)+len(p) > b.limit {
		b.over, b.kept = true, nil
	}
	if !b.over {
		b.kept = append(b.kept, p...)
	}
	return !b.claimed
}

// A firstReader is the body of the first request.
type firstReader struct {
	*replay
	from, to *http.Request // the request of the router, whose trailers the server sets at the end of the body, and the first request
	closed   atomic.Bool
}

func (f *firstReader) Read(p []byte) (int, error) {
	if f.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	f.mu.Lock()
	claimed := f.claimed
	if !claimed {
		f.reading++
	}
	f.mu.Unlock()
	if claimed {
		return 0, request.ErrDropped
	}
	ended := false
	defer func() {
		if !ended { // Read has panicked, and the second must not wait for its end
			f.keep(nil)
		}
	}()
	n, err := f.src.Read(p)
	ended = true
	if !f.keep(p[:n]) {
		return 0, request.ErrDropped
	}
	if err == io.EOF && len(f.from.Trailer) > 0 {
		f.to.Trailer = merge(f.to.Trailer, f.from.Trailer)
	}
	return n, err
}

// merge copies trailers into those of another request.
func merge(to, from http.Header) http.Header {
	if to == nil {
		return from.Clone()
	}
	maps.Copy(to, from)
	return to
}

// Close leaves the body open for the second, and for the server, which closes it.
func (f *firstReader) Close() error {
	f.closed.Store(true)
	return nil
}

// A secondReader is the body of the second request.
type secondReader struct {
	*replay
	at int // how much of what is kept was read
}

func (s *secondReader) Read(p []byte) (int, error) {
	s.mu.Lock()
	for s.at == len(s.kept) && s.reading > 0 {
		s.more.Wait()
	}
	if s.at < len(s.kept) {
		defer s.mu.Unlock()
		n := copy(p, s.kept[s.at:])
		s.at += n
		return n, nil
	}
	s.mu.Unlock()
	return s.src.Read(p)
}

func (s *secondReader) Close() error { return s.src.Close() }
