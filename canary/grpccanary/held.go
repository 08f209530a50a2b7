package grpccanary

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// errDropped is the error of a held whose answer was dropped.
var errDropped = errors.New("grpccanary: the answer of the canary was dropped: the stable side answers the call")

// A held is the transport stream of a canary that may be rescued. It keeps headers and trailers until the answer stands.
type held struct {
	grpc.ServerTransportStream
	attempt attempt

	mu              sync.Mutex
	state           holdState
	header, trailer metadata.MD
}

type holdState uint8

const (
	holding holdState = iota
	passing           // the answer stands: headers and trailers go to the transport
	dropped
)

// hold returns a context with a held in place of its transport stream. The held is nil if the context has no transport stream.
func hold(ctx context.Context, a attempt) (context.Context, *held) {
	ts := grpc.ServerTransportStreamFromContext(ctx)
	if ts == nil {
		return ctx, nil
	}
	h := &held{ServerTransportStream: ts, attempt: a}
	return grpc.NewContextWithServerTransportStream(ctx, h), h
}

// SetHeader keeps md, or passes md on.
func (h *held) SetHeader(md metadata.MD) error {
	return h.set(&h.header, md, h.ServerTransportStream.SetHeader)
}

// SetTrailer keeps md, or passes md on.
func (h *held) SetTrailer(md metadata.MD) error {
	return h.set(&h.trailer, md, h.ServerTransportStream.SetTrailer)
}

func (h *held) set(kept *metadata.MD, md metadata.MD, pass func(metadata.MD) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.state {
	case passing:
		return pass(md)
	case dropped:
		return errDropped
	}
	*kept = metadata.Join(*kept, md)
	return nil
}

// SendHeader sends the header. The call is not rescued after that.
func (h *held) SendHeader(md metadata.MD) error {
	if !h.attempt.commit() {
		h.end(dropped)
		return errDropped
	}
	h.end(passing)
	return h.ServerTransportStream.SendHeader(md)
}

// end ends the holding, if the held is not nil and still holds: headers and trailers are passed on, or dropped.
func (h *held) end(state holdState) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != holding {
		return
	}
	if h.state = state; state == passing {
		_ = h.ServerTransportStream.SetHeader(h.header) // fails only if an interceptor has sent the header
		_ = h.ServerTransportStream.SetTrailer(h.trailer)
	}
	h.header, h.trailer = nil, nil
}
