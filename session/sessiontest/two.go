package sessiontest

import (
	"context"
	"encoding/gob"
	"errors"
	"io"
	"math/bits"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// patience is how long the other process may take to start and to end.
const patience = 30 * time.Second

// RunTwo is [Run] from two processes at the same time. Each check gets a store from open, and a store in another process, which
// runs the test binary again: there [Serve] opens the same records, by the environment variables that open returns as
// "NAME=value". The calls of a check go to the two stores in turn, and races use both at once. A context ends in the other
// process too. The other process ends with the check, or when the process of the test dies.
//
// Without Serve in TestMain all checks fail.
func RunTwo(t *testing.T, open func(t *testing.T) (store session.Store, env []string)) {
	for _, c := range checks {
		t.Run(c.promise, func(t *testing.T) {
			store, env := open(t)
			views := []session.Store{store, startOther(t, env)}
			c.check(suite{T: t, store: &pair{stores: [2]session.Store(views)}, views: views})
		})
	}
}

// A pair distributes the calls over two stores in the Thue-Morse sequence: after each store, both stores are about as often the
// next, so no pattern of calls always meets the same store.
type pair struct {
	stores [2]session.Store
	calls  atomic.Uint64
}

func (p *pair) next() session.Store { return p.stores[bits.OnesCount64(p.calls.Add(1)-1)%2] }

func (p *pair) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	return p.next().Create(ctx, id, data, expires)
}

func (p *pair) Load(ctx context.Context, id string) (session.Record, error) {
	return p.next().Load(ctx, id)
}

func (p *pair) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	return p.next().Swap(ctx, id, rev, data, expires)
}

func (p *pair) Touch(ctx context.Context, id string, expires time.Time) error {
	return p.next().Touch(ctx, id, expires)
}

func (p *pair) Delete(ctx context.Context, id string) error { return p.next().Delete(ctx, id) }

// An other is the store of the other process.
type other struct {
	writing sync.Mutex // guards out, and nothing that reading needs: a pipe may be full in both directions
	out     *gob.Encoder

	mu      sync.Mutex // guards what follows
	seq     uint64
	waiting map[uint64]chan<- answer // nil when no answers come any more
}

// startOther starts the other process, which ends with the test.
func startOther(t *testing.T, env []string) *other {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$") // no tests, if Serve is not called
	cmd.Env = append(append(os.Environ(), env...), serveEnv+"=1",
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // otherwise it takes a second to end
	cmd.Stderr = t.Output()
	cmd.WaitDelay = patience
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := &other{out: gob.NewEncoder(in), waiting: map[uint64]chan<- answer{}}
	first := make(chan answer, 1)
	o.waiting[0] = first
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.receive(gob.NewDecoder(out))
	}()
	t.Cleanup(func() { stopOther(t, cmd, in, ended) })
	o.wantOpen(t, first)
	return o
}

// wantOpen waits until the store in the other process is open.
func (o *other) wantOpen(t *testing.T, first <-chan answer) {
	t.Helper()
	select {
	case a, ok := <-first:
		if !ok {
			t.Fatal("the other process does not serve: TestMain has to call sessiontest.Serve first")
		}
		if a.Err != "" {
			t.Fatalf("the other process has no store: %s", a.Err)
		}
	case <-time.After(patience):
		t.Fatalf("the other process has opened no store after %v", patience)
	}
}

// stopOther closes the input of the process, which ends the process. If the process goes on for the time of patience, stopOther
// kills the process.
func stopOther(t *testing.T, cmd *exec.Cmd, in io.Closer, ended <-chan struct{}) {
	in.Close()
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	<-ended // its output is read to the end
	if err := cmd.Wait(); err != nil && !t.Failed() {
		t.Errorf("the other process: %v", err)
	}
}

// receive passes the answers to the waiting calls, until no more answers come.
func (o *other) receive(in *gob.Decoder) {
	for {
		var a answer
		if in.Decode(&a) != nil {
			break
		}
		o.mu.Lock()
		reply := o.waiting[a.Seq]
		delete(o.waiting, a.Seq)
		o.mu.Unlock()
		if reply != nil {
			reply <- a
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, reply := range o.waiting {
		close(reply)
	}
	o.waiting = nil
}

var errOther = errors.New("sessiontest: the other process has ended")

// send begins a call.
func (o *other) send(c call) (<-chan answer, uint64, error) {
	reply := make(chan answer, 1)
	o.mu.Lock()
	if o.waiting == nil {
		o.mu.Unlock()
		return nil, 0, errOther
	}
	o.seq++
	c.Seq = o.seq
	o.waiting[c.Seq] = reply
	o.mu.Unlock()
	return reply, c.Seq, o.write(c)
}

func (o *other) write(c call) error {
	o.writing.Lock()
	defer o.writing.Unlock()
	return o.out.Encode(c)
}

// do makes a call and waits for the answer, also after the end of ctx: the other store has to return then.
func (o *other) do(ctx context.Context, c call) (session.Record, error) {
	c.Deadline, _ = ctx.Deadline()
	c.Ended = errors.Is(ctx.Err(), context.Canceled)
	reply, seq, err := o.send(c)
	if err != nil {
		return session.Record{}, err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = o.write(call{Seq: seq, Op: "cancel"}) // without it the answer tells what happened
	})
	defer stop()
	a, ok := <-reply
	if !ok {
		return session.Record{}, errOther
	}
	return a.Record, a.err()
}

// err returns the error of an answer, which wraps the same errors of known as in the other process.
func (a answer) err() error {
	if a.Err == "" {
		return nil
	}
	e := otherError{text: a.Err}
	for _, i := range a.Is {
		e.is = append(e.is, known[i])
	}
	return e
}

// An otherError is an error of the other process.
type otherError struct {
	text string
	is   []error
}

func (e otherError) Error() string   { return "in the other process: " + e.text }
func (e otherError) Unwrap() []error { return e.is }

func (o *other) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	rec, err := o.do(ctx, call{Op: "create", ID: id, Data: data, Expires: expires})
	return rec.Rev, err
}

func (o *other) Load(ctx context.Context, id string) (session.Record, error) {
	return o.do(ctx, call{Op: "load", ID: id})
}

func (o *other) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	rec, err := o.do(ctx, call{Op: "swap", ID: id, Rev: rev, Data: data, Expires: expires})
	return rec.Rev, err
}

func (o *other) Touch(ctx context.Context, id string, expires time.Time) error {
	_, err := o.do(ctx, call{Op: "touch", ID: id, Expires: expires})
	return err
}

func (o *other) Delete(ctx context.Context, id string) error {
	_, err := o.do(ctx, call{Op: "delete", ID: id})
	return err
}
