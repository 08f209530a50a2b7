package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/canary"
)

// A Candidate is the new process of an upgrade, to which a Rollout gives its weight: a Candidate of package upgrade.
type Candidate interface {
	SetWeight(weight float64) error
	PID() int
}

// Processes is the rollout of new processes: each candidate of an upgrade is judged by the requests of both processes. Make it
// in main by NewProcesses, before the Upgrader: the old process and the candidate have one each, with the same options.
//
//	var up *upgrade.Upgrader
//	ro, err := rollout.NewProcesses(rollout.Options{
//		Name: "web", Steps: steps, Broadcast: func(name string, data []byte) error { return up.Broadcast(name, data) },
//	}, upgrade.Assigned)
//	…
//	up, err = upgrade.New(upgrade.Options{
//		Bake: func(ctx context.Context, c *upgrade.Candidate) error { return ro.Bake(ctx, c) },
//	})
//	…
//	up.OnBroadcast("web", ro.Ingest)
//	hs := &http.Server{Handler: ro.Handler(mux), ConnContext: ro.ConnContext}
//	…
//	go ro.Report(ctx) // in the function that Run of the Upgrader calls
//
// Chance assigns connections to the processes, and not requests: so a connection counts once for each kind of event, however
// many of its requests are bad. If few clients keep their connections for long, there is little evidence, and a candidate with
// a small weight may have no connection at all: MinSamples of the step waits for requests. After the commit, a Rollout of the
// candidate can no longer bring the old process back: Rollback of the Upgrader starts the previous build.
type Processes struct {
	opts     Options
	own      *Rollout // in which this process is the candidate
	assigned func(net.Conn) (unit string, weight float64, ok bool)
	now      atomic.Pointer[trial]
	baking   sync.Mutex // held by Bake
	warned   sync.Once  // of a request without a connection
}

// A trial is the rollout of one candidate, in one of the two processes.
type trial struct {
	*Rollout
	canary bool // this process is the candidate
}

// NewProcesses returns the rollouts of processes. The function assigned says how chance has assigned a connection; pass
// Assigned of package upgrade. Leave Kill, Follows, Salt and SetWeight of the options empty, otherwise NewProcesses returns an
// error. Broadcast is needed to get the evidence of the candidate. Without Steps and Plan, a candidate gets everything at once,
// and is committed.
func NewProcesses(opts Options, assigned func(net.Conn) (unit string, weight float64, ok bool)) (*Processes, error) {
	if opts.Kill != nil || opts.Follows != nil || opts.Salt != "" || opts.SetWeight != nil {
		return nil, errors.New("rollout: Kill, Follows, Salt and SetWeight are for New only: leave them empty for NewProcesses")
	}
	if opts.Broadcast == nil {
		return nil, errors.New("rollout: NewProcesses has no Broadcast, by which the evidence of the candidate comes: pass that of the Upgrader")
	}
	if assigned == nil {
		return nil, errors.New("rollout: NewProcesses has no function assigned: pass upgrade.Assigned")
	}
	opts.Name = cmp.Or(opts.Name, defaultName)
	if opts.Steps == nil && opts.Plan == nil {
		opts.Steps = Steps{{Weight: 1}}
	}
	p := &Processes{opts: opts, assigned: assigned}
	opts.Follows = func() bool { return true }
	r, err := p.rollout(os.Getpid(), opts)
	if err != nil {
		return nil, err
	}
	p.own = r
	p.now.Store(&trial{r, true})
	return p, nil
}

// rollout returns the Rollout of a candidate. The pid is the salt, as a further candidate is another release, and as both processes
// know the pid: an Upgrader refuses a candidate whose pid is not that of the process that the Upgrader has started, as after a script
// that does not end with exec.
func (p *Processes) rollout(pid int, opts Options) (*Rollout, error) {
	opts.Salt = fmt.Sprintf("%s of %d", opts.Name, pid)
	return New(opts)
}

// Bake is made for Bake of upgrade.Options. Bake moves the weight of a candidate until the candidate is promoted: then Bake
// returns nil, and the candidate is committed. If the rollout ends RolledBack or Aborted, or SetWeight of the candidate fails,
// Bake returns an error with the reason, and the candidate is taken back. If ctx ends before, Bake returns the cause. While the
// rollout is Gated, Paused or Held, Bake waits.
func (p *Processes) Bake(ctx context.Context, c Candidate) error {
	p.baking.Lock()
	defer p.baking.Unlock()
	opts := p.opts
	opts.SetWeight = c.SetWeight
	r, err := p.rollout(c.PID(), opts)
	if err != nil {
		return err
	}
	p.now.Store(&trial{r, false})
	if err := r.run(ctx, true); err != nil {
		reason := err.Error()
		if errors.Is(err, context.Canceled) {
			reason = "the bake has ended before the rollout: the candidate has died, or an operator has committed it"
		}
		_ = r.Abort(reason)
		return err
	}
	if s := r.Status(); s.State != Promoted {
		return fmt.Errorf("rollout: %v in step %d: %s; %v", s.State, s.Step, s.Reason, s.Judge)
	}
	return nil
}

// Report sends the evidence of a candidate, at least each second while there is any, and blocks until ctx ends. It returns the
// cause of the end of ctx. In a process that is no candidate, Report sends nothing. Call Report once.
func (p *Processes) Report(ctx context.Context) error {
	return p.own.Run(ctx)
}

// Ingest takes over what Options.Broadcast of the other process has sent. It is made for OnBroadcast of an Upgrader.
func (p *Processes) Ingest(message []byte) error { return p.now.Load().Ingest(message) }

// Status returns the status of the rollout of the last candidate. In a process that was a candidate, and has had no candidate
// itself, this is the rollout of this process.
func (p *Processes) Status() Status { return p.now.Load().Status() }

// Rollout returns the rollout that Status is about, for an operator. Ask for it before each use, as each candidate has another
// one. Abort works in both processes, the other methods only in the old one.
func (p *Processes) Rollout() *Rollout { return p.now.Load().Rollout }

type connKey struct{}

// ConnContext puts the connection into the context of its requests. It is made for ConnContext of an http.Server. A request whose
// context has no connection does not count.
func (p *Processes) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Handler returns a handler that counts the outcomes of next. The server needs ConnContext.
func (p *Processes) Handler(next http.Handler) http.Handler {
	return canary.NewRouter(next, nil, canary.Options{Name: p.opts.Name, Begin: p.begin, Observe: p.observe})
}

// Begin counts that a request begins. It is made for canary.Options.Begin of a Router that Handler has not made, such as one of
// package grpccanary. The context of the request has to derive from that of ConnContext.
func (p *Processes) Begin(o canary.Outcome) any { return p.begin(o) }

// Observe counts how a request has ended. It is made for canary.Options.Observe, beside Begin.
func (p *Processes) Observe(o canary.Outcome) { p.observe(o) }

func (p *Processes) begin(o canary.Outcome) any {
	t := p.now.Load()
	if t.ignores(o.Request) {
		return nil
	}
	c, ok := o.Request.Context().Value(connKey{}).(net.Conn)
	if !ok {
		p.warned.Do(func() {
			t.opts.Logger.Warn("rollout: a request is no evidence, as its context has no connection: pass ConnContext to its server",
				slog.String("name", p.opts.Name))
		})
		return nil
	}
	var to route
	to.canary = t.canary
	to.unit, to.weight, to.drawn = p.assigned(c)
	if to.drawn {
		t.assigned(to, o.Start)
	}
	o.Weight = 0 // what a Router has drawn says nothing about the two processes
	return t.running.begin(t.recorder, o, to)
}

func (p *Processes) observe(o canary.Outcome) {
	s, _ := o.Begun.(*slot)
	if s == nil {
		return
	}
	r := s.recorder
	to, reported := s.end()
	r.ended(o, to, reported)
}
