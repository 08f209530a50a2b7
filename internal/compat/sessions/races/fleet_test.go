package races

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A fleet is three processes that serve the same visitors.
type fleet struct {
	t       *testing.T
	client  *http.Client
	library string
	a, b    string // the addresses of two processes with the same options
	patient string // the address of one with a longer idle timeout: every request that reads a session there moves its expiry
}

func startFleet(t *testing.T, e engine, library string) *fleet {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	f := &fleet{t: t, library: library, client: &http.Client{Transport: transport, Timeout: 20 * time.Minute}}
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	where := e.start(t)
	start := func(idle time.Duration) string {
		env := []string{"ENGINE=" + e.name, "WHERE=" + where, "LIBRARY=" + library, "IDLE=" + idle.String()}
		p := testutil.Start(t, "site", testutil.Cfg{Env: env})
		return "http://" + p.WaitOutput(30*time.Second, "listening on ")
	}
	short, long := time.Hour, 24*time.Hour
	if library == "scs" {
		short, long = 0, time.Hour // it moves the expiry with every request, unless there is no idle timeout
	}
	f.a, f.b, f.patient = start(short), start(short), start(long)
	return f
}

// An answer is what a visitor gets: cookie is the one that the visitor has afterwards.
type answer struct {
	status int
	body   string
	cookie string
	err    error
}

func (a answer) String() string { return fmt.Sprintf("%d %.80q %v", a.status, a.body, a.err) }

// ask sends a request with a cookie, "" for none.
func (f *fleet) ask(base, path, cookie string, query ...string) answer {
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	req, err := http.NewRequestWithContext(f.t.Context(), "GET", base+"/"+path+"?"+values.Encode(), nil)
	if err != nil {
		return answer{err: err}
	}
	if cookie != "" {
		req.Header.Set("Cookie", "session="+cookie)
	}
	res, err := f.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	a := answer{status: res.StatusCode, body: string(body), cookie: cookie, err: err}
	for _, c := range res.Cookies() {
		a.cookie = c.Value
	}
	return a
}

// A race collects what is wrong in one meeting of requests.
type race struct {
	*fleet
	name     string
	problems []string
}

func (r *race) report(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// good sends a request that has to succeed.
func (r *race) good(base, path, cookie string, query ...string) answer {
	a := r.ask(base, path, cookie, query...)
	if a.err != nil || a.status != http.StatusOK {
		r.report("/%s answers %d %s %v", path, a.status, a.body, a.err)
	}
	return a
}

// show returns the values that a visitor with a cookie sees.
func (r *race) show(base, cookie string) url.Values {
	values, err := url.ParseQuery(r.good(base, "show", cookie).body)
	if err != nil {
		r.report("/show: %v", err)
	}
	return values
}

// hidden reports that a cookie shows the value of one of keys, in one of the processes.
func (r *race) hidden(what, cookie string, keys ...string) {
	for _, base := range []string{r.a, r.b} {
		values := r.show(base, cookie)
		var seen []string
		for _, key := range keys {
			if values.Has(key) {
				seen = append(seen, key)
			}
		}
		if len(seen) > 0 {
			r.report("%s shows %s", what, strings.Join(seen, ", "))
		}
	}
}

// run runs n races, several at a time, and returns how often each problem came.
func (f *fleet) run(n int, one func(r *race, i int)) map[string]int {
	var mu sync.Mutex
	counts := map[string]int{}
	turns := make(chan int)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range turns {
				r := &race{fleet: f, name: fmt.Sprintf("%s %d", f.t.Name(), i)}
				one(r, i)
				slices.Sort(r.problems)
				mu.Lock()
				for _, p := range slices.Compact(r.problems) {
					counts[p]++
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		turns <- i
	}
	close(turns)
	all.Wait()
	return counts
}

// An overlap is what a slow request does while the session ends, and where it is when it becomes slow.
type overlap struct {
	name    string
	do, at  string
	patient bool // it is a request that moves the expiry
	renews  bool // it ends the session itself, if it comes first
}

var overlaps = []overlap{
	{name: "reads", do: "show", at: "handler"},
	{name: "touches", do: "show", at: "touch", patient: true},
	{name: "writes", do: "put", at: "handler"},
	{name: "is about to store a write", do: "put", at: "swap"},
	{name: "counts", do: "count", at: "swap"},
	{name: "renews", do: "renew", at: "handler", renews: true},
	{name: "has renewed half", do: "renew", at: "swap", renews: true},
	{name: "logs in", do: "login", at: "create", renews: true},
}

// meet runs a slow request with a cookie beside a fast one, which begins when the slow one is at its gate. In one half of the
// races the gate opens when the fast request is answered, and otherwise at the same time.
func (r *race) meet(o overlap, i int, cookie, do string) (slow, fast answer) {
	base, at := r.b, o.at
	if o.patient {
		base = r.patient
	}
	if r.library == "scs" {
		at = "handler" // where it comes to the store is not known to its own middleware
	}
	done := make(chan answer, 1)
	go func() { done <- r.ask(base, o.do, cookie, "gate", r.name, "at", at, "k", "late", "v", "late") }()
	r.ask(base, "reached", "", "gate", r.name)
	if i/len(overlaps)%2 == 0 {
		fast = r.ask(r.a, do, cookie, "v", "ann")
		r.ask(base, "open", "", "gate", r.name)
		return <-done, fast
	}
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		r.ask(base, "open", "", "gate", r.name)
	}()
	fast = r.ask(r.a, do, cookie, "v", "ann")
	<-opened
	return <-done, fast
}
