//go:build linux

package testclient

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Dial returns a client that has received an answer, so a process has accepted its connection.
func (r *Service) Dial() *Peer {
	r.t.Helper()
	p := r.Connect()
	p.Ask("/work")
	return p
}

// DialTo opens connections until a process of the given version answers, and returns the client with this connection.
func (r *Service) DialTo(by string) (p *Peer) {
	r.t.Helper()
	testutil.Until(r.t, Patience, "a connection to "+by, func() bool {
		if p = r.Dial(); p.By != by {
			p.Close()
		}
		return p.By == by
	})
	return p
}

// Connect returns a client that has sent no request yet.
func (r *Service) Connect() *Peer {
	r.t.Helper()
	network := "tcp"
	if strings.HasPrefix(r.Addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, r.Addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return NewPeer(r.t, c)
}

// Post sends a request on a new connection, and returns the number in the answer, and the version of the process that has
// answered.
func (r *Service) Post(path string) (n int, by string) {
	r.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Post("http://"+r.Addr+path, "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	_, _ = fmt.Sscan(string(b), &n)
	return n, resp.Header.Get("X-Version")
}

// MustAdd increases the kept value of the service, and ends the test unless the new value is want and a process of the
// version by has answered.
func (r *Service) MustAdd(want int, by string) {
	r.t.Helper()
	if n, v := r.Post("/add"); n != want || v != by {
		r.t.Fatalf("%s says %d, want %s and %d", v, n, by, want)
	}
}

// Load starts a load on the service.
func (r *Service) Load(o testutil.LoadOptions) *testutil.Load {
	r.t.Helper()
	o.Addr = r.Addr
	if r.Set.Network == "unix" {
		o.Network, o.Addr = "unix", r.Set.Addr
	}
	return testutil.StartLoad(r.t, o)
}

// Account stops the load and classifies the requests.
func (r *Service) Account(l *testutil.Load) testutil.Accounting {
	r.t.Helper()
	return testutil.Account(r.t, l.Stop(), filepath.Join(r.Dir, "journal"))
}

var faultLine = regexp.MustCompile(`fault \S+ \S+ (\d+)`)

// Faulted returns the pid of the process that has failed by a Fault; 0 before the failure.
func (r *Service) Faulted() int {
	m := faultLine.FindStringSubmatch(r.Output())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// Frozen reports whether a process was suspended by a Fault with the action stop. The process writes its output a moment
// before, and in that moment it may still accept a connection.
func (r *Service) Frozen() bool { return r.Faulted() != 0 && Stopped(r.Faulted()) }

// LostWith reports whether a request was lost because a process died: the process had received the request or accepted its
// connection, or perhaps had accepted the connection without recording this, since the request was sent before dead, the time
// of death.
func (r *Service) LostWith(o testutil.Offender, pid int, dead time.Time) bool {
	return o.By(pid) || r.accepted(o, pid) || o.PID == 0 && o.Start.Before(dead)
}

// accepted reports whether one of the processes has had the connection of a lost request, according to the records of the
// processes: a client does not know which process has its connection before the first answer, or after a move of the
// connection.
func (r *Service) accepted(o testutil.Offender, pids ...int) bool {
	return o.From() != "" && slices.ContainsFunc(pids, func(pid int) bool {
		b, _ := os.ReadFile(plan.AcceptedBy(r.Dir, pid))
		return slices.Contains(strings.Fields(string(b)), o.From())
	})
}

const (
	// tolerance is how much the recorded times of a process's death and of the end of its requests may differ.
	tolerance = 10 * time.Millisecond
	// dying is how long a killed process may accept connections on a machine with other things to do.
	dying = 100 * time.Millisecond
	// ending is the same for a process that panics or exits. Before its end it prints all goroutines.
	ending = 500 * time.Millisecond
)

// MustHaveLostOnlyWith stops the load, and fails the test if a request was lost for another reason than the death of the
// process with the fault. Allowed are: a request that the process has executed, a request on a connection with an earlier
// answer of the process, and a request on a new connection that was under way when the process died, or whose connection the
// process had accepted. A refused connection is never allowed.
func (r *Service) MustHaveLostOnlyWith(l *testutil.Load, f Fault) {
	r.t.Helper()
	died, until := f.Time(), dying
	if !f.kills {
		until = ending
	}
	r.mustHaveLostOnly(r.Account(l), []int{r.Faulted()}, func(o testutil.Offender) bool {
		return !o.Start.After(died.Add(until)) && !o.End.Before(died.Add(-tolerance))
	})
}

// MustHaveLostOnlyThen is MustHaveLostOnlyWith for processes that the test has killed, which are dead, at the times kills.
func (r *Service) MustHaveLostOnlyThen(a testutil.Accounting, kills []time.Time, dead []int) {
	r.t.Helper()
	r.mustHaveLostOnly(a, dead, func(o testutil.Offender) bool {
		return slices.ContainsFunc(kills, func(at time.Time) bool {
			return !o.Start.After(at.Add(dying)) && !o.End.Before(at)
		})
	})
}

func (r *Service) mustHaveLostOnly(a testutil.Accounting, dead []int, underWay func(testutil.Offender) bool) {
	r.t.Helper()
	for _, o := range a.Except(dead...) {
		if o.PID != 0 || o.Verdict != testutil.NotExecuted || !underWay(o) && !r.accepted(o, dead...) {
			r.t.Errorf("lost, and not by a process that died: %v", o)
		}
	}
	if a.Counts[testutil.Twice] > 0 || a.Unknown > 0 {
		r.t.Errorf("executed twice or out of nothing:\n%s", a)
	}
}
