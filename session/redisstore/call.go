package redisstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pauses between two attempts of a call are random and up to firstPause, which doubles with each attempt up to longestPause.
const (
	firstPause   = 8 * time.Millisecond
	longestPause = 512 * time.Millisecond
)

// A request makes the command for an attempt. With whole, the command has the source of a script instead of the hash.
type request interface {
	command(ctx context.Context, whole bool, args []any) *redis.Cmd
}

// A command is the name of a command, whose first argument is a key.
type command string

func (c command) command(ctx context.Context, _ bool, args []any) *redis.Cmd {
	return redis.NewCmd(ctx, append([]any{string(c)}, args...)...)
}

// A lua is the source of a script, and the hash under which a server keeps the script after the first run.
type lua struct{ source, hash string }

func newLua(source string) *lua { return &lua{source: source, hash: redis.NewScript(source).Hash()} }

// A script runs a lua on a single key.
type script struct {
	*lua
	key string
}

func (s script) command(ctx context.Context, whole bool, args []any) *redis.Cmd {
	all := make([]any, 0, 4+len(args))
	if whole {
		all = append(all, "eval", s.source, 1, s.key)
	} else {
		all = append(all, "evalsha", s.hash, 1, s.key)
	}
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

// once keeps the client from repeating a command: call repeats commands, and has to know about every attempt.
type once struct{ *redis.Cmd }

// NoRetry is asked by the client.
func (once) NoRetry() bool { return true }

// An answer is the result of a call.
type answer struct {
	value any
	err   error
	lost  error // not nil: an earlier attempt had no answer, for this reason, and may have been carried out
}

// call repeats a request after transient errors, at most s.retries times and not after the end of ctx. If ctx has ended before
// the call, nothing is sent.
func (s *Store) call(ctx context.Context, req request, args ...any) answer {
	var a answer
	if a.err = ctx.Err(); a.err != nil {
		return a
	}
	for n := 0; ; n++ {
		a.value, a.err = s.attempt(ctx, req, args)
		if a.err == nil || n >= s.retries || !transient(a.err) {
			return a
		}
		if !isReply(a.err) && !errors.Is(a.err, redis.ErrPoolTimeout) {
			a.lost = a.err
		}
		if pause(ctx, n) != nil {
			return a
		}
	}
}

// attempt sends the command to the server. If the server does not know the script and has therefore done nothing, attempt sends
// the whole script.
func (s *Store) attempt(ctx context.Context, req request, args []any) (any, error) {
	cmd := req.command(ctx, false, args)
	err := s.client.Process(ctx, once{cmd})
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		cmd = req.command(ctx, true, args)
		err = s.client.Process(ctx, once{cmd})
	}
	return cmd.Val(), err
}

// transient reports whether another attempt may have more success. A failed dial is final: the client has tried several times.
func transient(err error) bool {
	if isReply(err) {
		return redis.IsLoadingError(err) || redis.IsReadOnlyError(err) || redis.IsClusterDownError(err) ||
			redis.IsTryAgainError(err) || redis.IsMasterDownError(err) || redis.IsMaxClientsError(err)
	}
	var op *net.OpError
	dial := errors.As(err, &op) && op.Op == "dial"
	return !dial && !errors.Is(err, redis.ErrClosed)
}

// isReply reports whether an error is an answer of the server, which has then done nothing.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(rand.N(min(longestPause, firstPause<<min(attempt, 10))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
