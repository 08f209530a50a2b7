package sessiontest

import (
	"context"
	"encoding/gob"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/midair-go/midair/session"
)

// serveEnv is set in the other process of RunTwo.
const serveEnv = "MIDAIR_SESSIONTEST_SERVE"

// Serve is the first call in TestMain of a package that uses [RunTwo]. In the other process of RunTwo, Serve opens a store,
// makes the calls for RunTwo, and returns true when RunTwo has ended; then TestMain returns. Everywhere else Serve returns
// false at once.
//
//	func TestMain(m *testing.M) {
//		if sessiontest.Serve(func() (session.Store, error) { return session.Dir(os.Getenv("DIR")), nil }) {
//			return
//		}
//		os.Exit(m.Run())
//	}
//
// The environment tells open which store to open: RunTwo's own open returns the variables. Serve uses standard input and
// output. Meanwhile, other output of the process goes to standard error, and from there to the log of the test.
func Serve(open func() (session.Store, error)) (served bool) {
	if os.Getenv(serveEnv) == "" {
		return false
	}
	os.Unsetenv(serveEnv) // a process that this one starts is an ordinary one
	s := server{out: gob.NewEncoder(os.Stdout), cancels: map[uint64]context.CancelFunc{}}
	os.Stdout = os.Stderr
	var err error
	if s.store, err = open(); err == nil && s.store == nil {
		err = errors.New("no store was opened")
	}
	s.answer(answer{}, err)
	if err == nil {
		s.serve(gob.NewDecoder(os.Stdin))
	}
	return true
}

// A call goes to the other process. Op "cancel" ends the context of an earlier call.
type call struct {
	Seq      uint64
	Op       string
	ID       string
	Data     []byte
	Rev      uint64
	Expires  time.Time
	Deadline time.Time // of the context; zero: none
	Ended    bool      // the context was cancelled before the call
}

// An answer comes back. The first answer belongs to no call, and reports whether the store is open.
type answer struct {
	Seq    uint64
	Record session.Record // of Create and Swap only the revision
	Err    string
	Is     []int // what the error wraps of known
}

// known are the errors with the same identity in both processes.
var known = []error{session.ErrNotFound, session.ErrConflict, session.ErrUnavailable, context.Canceled, context.DeadlineExceeded}

// A server makes the calls in the other process.
type server struct {
	store session.Store

	writing sync.Mutex // guards out, and nothing that reading needs: a pipe may be full in both directions
	out     *gob.Encoder

	mu      sync.Mutex // guards what follows
	cancels map[uint64]context.CancelFunc
}

// serve makes calls until RunTwo closes the pipe or dies. The end of the process ends all running calls.
func (s *server) serve(in *gob.Decoder) {
	for {
		var c call
		if in.Decode(&c) != nil {
			return
		}
		if c.Op == "cancel" {
			s.cancel(c.Seq)
			continue
		}
		ctx := s.begin(c)
		go func() {
			defer s.cancel(c.Seq)
			rec, err := s.do(ctx, c)
			s.answer(answer{Seq: c.Seq, Record: rec}, err)
		}()
	}
}

// begin makes the context of a call.
func (s *server) begin(c call) context.Context {
	var ctx context.Context
	var cancel context.CancelFunc
	if c.Deadline.IsZero() {
		ctx, cancel = context.WithCancel(context.Background())
	} else {
		ctx, cancel = context.WithDeadline(context.Background(), c.Deadline)
	}
	if c.Ended {
		cancel()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancels[c.Seq] = cancel
	return ctx
}

func (s *server) cancel(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.cancels[seq]; cancel != nil {
		cancel()
		delete(s.cancels, seq)
	}
}

func (s *server) do(ctx context.Context, c call) (rec session.Record, err error) {
	switch c.Op {
	case "create":
		rec.Rev, err = s.store.Create(ctx, c.ID, c.Data, c.Expires)
	case "load":
		rec, err = s.store.Load(ctx, c.ID)
	case "swap":
		rec.Rev, err = s.store.Swap(ctx, c.ID, c.Rev, c.Data, c.Expires)
	case "touch":
		err = s.store.Touch(ctx, c.ID, c.Expires)
	case "delete":
		err = s.store.Delete(ctx, c.ID)
	default:
		err = errors.New("no such method: " + c.Op)
	}
	return rec, err
}

func (s *server) answer(a answer, err error) {
	if err != nil {
		a.Err = err.Error()
		for i, target := range known {
			if errors.Is(err, target) {
				a.Is = append(a.Is, i)
			}
		}
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.out.Encode(a) // RunTwo is gone if this fails, and the next Decode says so
}
