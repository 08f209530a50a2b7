package grpccanary

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A unary is a unary call.
type unary struct {
	c        call
	req      any
	handlers [2]grpc.UnaryHandler // by canary.Side
	own      *held                // of the canary, or nil
	reply    any
	err      error
}

// unary returns the answer to a call.
func (rt *Router) unary(ctx context.Context, method string, u *unary) (any, error) {
	defer func() { u.own.end(passing) }() // also after a panic that goes on
	rt.serve(ctx, method, &u.c, u)
	return u.reply, u.err
}

// answer calls the handler of a side.
func (u *unary) answer(ctx context.Context, a attempt) error {
	u.own.end(dropped)
	req := u.req
	if m, ok := req.(proto.Message); !ok {
		a.commit()
	} else if a.droppable() {
		u.req = proto.Clone(m) // for the stable handler: the canary may change its message
		ctx, u.own = hold(ctx, a)
	}
	u.reply, u.err = u.handlers[a.side](ctx, req)
	return u.err
}

// A streaming is a stream. As a ServerStream it has a context with the side.
type streaming struct {
	grpc.ServerStream
	c        call
	handlers [2]streamHandler // by canary.Side
	ctx      context.Context
	err      error
}

type streamHandler func(grpc.ServerStream) error

// stream returns the error with which a stream ends.
func (rt *Router) stream(method string, s *streaming) error {
	rt.serve(s.ServerStream.Context(), method, &s.c, s)
	return s.err
}

// Context returns the context of the attempt.
func (s *streaming) Context() context.Context { return s.ctx }

// answer calls the handler of a side. Messages cannot be read twice, so no stream is rescued.
func (s *streaming) answer(ctx context.Context, a attempt) error {
	a.commit()
	s.ctx = ctx
	s.err = s.handlers[a.side](s)
	return s.err
}
