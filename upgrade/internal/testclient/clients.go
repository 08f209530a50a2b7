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

// Dial returns a client after a first answer.
func (r *Service) Dial() *Peer {
	r.t.Helper()
	p := r.Connect()
	p.Ask("/work")
	return p
}

// DialTo opens connections until a process of the given version answers.
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

// Connect returns a client before a first request.
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

// Post sends a request on another connection, and returns the number in the answer, and the version that answers.
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

// MustAdd raises the kept value of the service, which must be want then, in a process of the version.
func (r *Service) MustAdd(want int, by string) {
	r.t.Helper()
	if n, v := r.Post("/add"); n != want || v != by {
		r.t.Fatalf("%s says %d, want %s and %d", v, n, by, want)
	}
}

// Load starts clients of the service.
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

// Faulted is the pid of the process with the Fault, 0 before the failure.
func (r *Service) Faulted() int {
	m := faultLine.FindStringSubmatch(r.Output())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// Frozen reports whether a process has failed by stopping, and runs no more. The output says so a moment earlier, and in
// that moment the process may still accept a connection.
func (r *Service) Frozen() bool { return r.Faulted() != 0 && Stopped(r.Faulted()) }

// LostWith reports whether a request was lost with a process: the process had received the request, had accepted the
// connection, or may have accepted without a note, since the request came before the process was dead.
func (r *Service) LostWith(o testutil.Offender, pid int, dead time.Time) bool {
	return o.By(pid) || r.accepted(o, pid) || o.PID == 0 && o.Start.Before(dead)
}

// accepted reports whether any of the processes has had the connection of a lost request: the client does not know
// which process has a connection before the first answer, nor when the connection moves.
func (r *Service) accepted(o testutil.Offender, pids ...int) bool {
	return o.From() != "" && slices.ContainsFunc(pids, func(pid int) bool {
		b, _ := os.ReadFile(plan.AcceptedBy(r.Dir, pid))
		return slices.Contains(strings.Fields(string(b)), o.From())
	})
}

// tolerance is how far the times of a death and of a request that ended with the process may be from each other.
const tolerance = 10 * time.Millisecond

// MustHaveLostOnlyWith allows the loss of requests that the process with the fault had received: requests that were
// executed, requests on a connection with an earlier answer of the process, and requests under way on a new connection at
// the death of the process. A connection that no process had accepted is no excuse, and a refusal never is.
func (r *Service) MustHaveLostOnlyWith(l *testutil.Load, f Fault) {
	r.t.Helper()
	died := f.Time()
	r.mustHaveLostOnly(r.Account(l), []int{r.Faulted()}, func(o testutil.Offender) bool {
		return !o.Start.After(died.Add(tolerance)) && !o.End.Before(died.Add(-tolerance))
	})
}

// MustHaveLostOnlyThen is MustHaveLostOnlyWith for processes that the test has killed, and the times of the kills.
func (r *Service) MustHaveLostOnlyThen(a testutil.Accounting, kills []time.Time, dead []int) {
	r.t.Helper()
	r.mustHaveLostOnly(a, dead, func(o testutil.Offender) bool {
		return slices.ContainsFunc(kills, func(at time.Time) bool {
			return !o.Start.After(at.Add(tolerance)) && !o.End.Before(at)
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
