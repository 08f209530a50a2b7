package session_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// keyedRole serves a site whose keys follow FILE, or come by code: at first from SECRETS, and then by /rotate. /ring is what
// upgrade.Keep does.
func keyedRole() int {
	keys := &session.KeyRing{}
	settle, err := time.ParseDuration(os.Getenv("SETTLE"))
	if err != nil {
		return 2
	}
	session.SetSettle(keys, settle)
	if file := os.Getenv("FILE"); file != "" {
		err = keys.Follow(file)
	} else {
		err = keys.Rotate(bytes.Fields([]byte(os.Getenv("SECRETS")))...)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s := newSite(session.Dir(os.Getenv("DIR")), session.Options{Keys: keys})
	s.mux.HandleFunc("POST /rotate", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = keys.Rotate(bytes.Fields(body)...)
		}
		answerWith(w, nil, err)
	})
	s.mux.HandleFunc("GET /ring", func(w http.ResponseWriter, _ *http.Request) {
		data, err := keys.MarshalBinary()
		answerWith(w, data, err)
	})
	s.mux.HandleFunc("POST /ring", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = keys.UnmarshalBinary(body)
		}
		answerWith(w, nil, err)
	})
	s.mux.HandleFunc("GET /active", func(w http.ResponseWriter, _ *http.Request) {
		answerWith(w, []byte(keys.Status()[0].ID), nil)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	fmt.Printf("serving %s\n", ln.Addr())
	_ = http.Serve(ln, s) // until the process is killed
	return 1
}

func answerWith(w http.ResponseWriter, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(body)
}

// A fleet is the processes of one service, on one directory of sessions, with a file of keys for each of two hosts.
type fleet struct {
	t      *testing.T
	dir    string
	settle time.Duration
	client *http.Client

	mu      sync.Mutex
	serving []*member
}

// A member is a process of a fleet.
type member struct {
	*testutil.Proc
	url  string
	code bool
}

func newFleet(t *testing.T, settle time.Duration) *fleet {
	f := &fleet{t: t, dir: t.TempDir(), settle: settle, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}}
	t.Cleanup(f.client.CloseIdleConnections)
	return f
}

// start starts a process that follows the file of a host, or gets the letters as secrets by code, and is asked by visitors.
func (f *fleet) start(host, letters string) *member {
	f.t.Helper()
	env := []string{"DIR=" + filepath.Join(f.dir, "sessions"), "SETTLE=" + f.settle.String()}
	if host != "" {
		env = append(env, "FILE="+filepath.Join(f.dir, host))
	} else {
		env = append(env, "SECRETS="+lines(letters))
	}
	m := &member{Proc: testutil.Start(f.t, "keyed", testutil.Cfg{Env: env}), code: host == ""}
	m.url = "http://" + strings.TrimSpace(m.WaitOutput(20*time.Second, "serving "))
	return m
}

// open lets visitors ask a process.
func (f *fleet) open(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serving = append(f.serving, m)
}

// end takes a process away from the visitors.
func (f *fleet) end(m *member) {
	f.mu.Lock()
	for i, one := range f.serving {
		if one == m {
			f.serving = append(f.serving[:i:i], f.serving[i+1:]...)
			break
		}
	}
	f.mu.Unlock()
	m.Kill()
}

func (f *fleet) anyone() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.serving) == 0 {
		return "http://127.0.0.1:1" // the only one was killed
	}
	return f.serving[rand.IntN(len(f.serving))].url
}

// call asks a process for something that visitors do not ask for.
func (f *fleet) call(m *member, method, path string, body []byte) []byte {
	f.t.Helper()
	r, err := http.NewRequest(method, m.url+path, bytes.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	res, err := f.client.Do(r)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		f.t.Fatalf("%s %s: %s, %s, %v", method, path, res.Status, data, err)
	}
	return data
}

func (f *fleet) handOver(from, to *member) {
	f.t.Helper()
	f.call(to, "POST", "/ring", f.call(from, "GET", "/ring", nil))
}

// upgrade starts the next process beside old; both serve.
func (f *fleet) upgrade(old *member, host, letters string) *member {
	f.t.Helper()
	next := f.start(host, letters)
	f.handOver(old, next)
	f.open(next)
	return next
}

// commit ends an upgrade.
func (f *fleet) commit(old, next *member) {
	f.t.Helper()
	f.handOver(old, next)
	f.visits(20)
	f.end(old)
}

// write changes the file of a host.
func (f *fleet) write(host, letters string) {
	f.t.Helper()
	path := filepath.Join(f.dir, host)
	if err := os.WriteFile(path+".new", []byte(lines(letters)), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.t.Fatal(err)
	}
}

// lines are the secrets of letters.
func lines(letters string) string {
	var b strings.Builder
	for _, l := range letters {
		b.WriteString(strings.Repeat(string(l), 40) + "\n")
	}
	return b.String()
}

// active waits until processes seal with the secret of a letter.
func (f *fleet) active(letter string, members ...*member) {
	f.t.Helper()
	want := session.SealsWith(ring40(f.t, letter))
	for _, m := range members {
		testutil.Until(f.t, 30*time.Second, letter+" is active", func() bool {
			return string(f.call(m, "GET", "/active", nil)) == want
		})
	}
}

func ring40(t *testing.T, letter string) *session.KeyRing {
	t.Helper()
	k, err := session.NewKeyRing(bytes.Repeat([]byte(letter), 40))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A crowd is visitors who count without a pause, each at any process.
type crowd struct {
	stop    chan struct{}
	all     sync.WaitGroup
	answers atomic.Int64
	logouts atomic.Int64
	errors  atomic.Int64 // at processes that were killed
	renewed atomic.Int64 // cookies that were made anew
}

// visits asks processes so many times for what needs no session, so that some time passes.
func (f *fleet) visits(n int) {
	for range n {
		res, err := f.client.Get(f.anyone() + "/plain")
		if err != nil {
			f.t.Fatal(err)
		}
		res.Body.Close()
	}
}

func (f *fleet) crowd(size int) *crowd {
	c := &crowd{stop: make(chan struct{})}
	for range size {
		c.all.Go(func() { c.visitor(f) })
	}
	return c
}

// visitor counts until stop. A number that is not greater than the one before is that of a new session: the visitor was logged
// out.
func (c *crowd) visitor(f *fleet) {
	cookie, last := "", 0
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		r, err := http.NewRequest("GET", f.anyone()+"/count", nil)
		if err != nil {
			f.t.Error(err)
			return
		}
		if cookie != "" {
			r.Header.Set("Cookie", "session="+cookie)
		}
		n, set, err := c.ask(f.client, r)
		if err != nil {
			c.errors.Add(1) // the process was killed; the request may have counted
			continue
		}
		if c.answers.Add(1); n <= last {
			c.logouts.Add(1)
		}
		if last = n; set != "" {
			cookie = set
			c.renewed.Add(1)
		}
	}
}

func (c *crowd) ask(client *http.Client, r *http.Request) (n int, cookie string, err error) {
	res, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", err
	}
	for _, one := range res.Cookies() {
		cookie = one.Value
	}
	n, err = strconv.Atoi(string(body))
	return n, cookie, err
}

func (c *crowd) end() {
	close(c.stop)
	c.all.Wait()
}

// "Rotation with overlap and rollback under load: 0 logouts": real processes on two hosts overlap while keys rotate by file and
// by code, the new process first, or the old one, or both at once; with a commit, an abort, a rollback, and kills with a start
// from the file, also right after a change. Visitors ask all processes in turn.
func TestNobodyIsLoggedOutByARotation(t *testing.T) {
	f := newFleet(t, 3*time.Second)
	f.write("a", "a")
	f.write("b", "a")
	p, other := f.start("a", ""), f.start("b", "")
	f.open(p)
	f.open(other)
	c := f.crowd(6)
	rotate := func(letters string) { // the second host is a little late
		f.write("a", letters)
		f.visits(10)
		f.write("b", letters)
	}

	rotate("ba") // an upgrade begins at once: both processes read the change at any moment
	next := f.upgrade(p, "a", "")
	f.active("b", p, next, other)
	f.commit(p, next)
	p = next

	next = f.upgrade(p, "", "cba") // by code, and the new process has the key long before the others
	f.active("b", next)
	rotate("cba")
	f.active("c", p, other)
	f.handOver(next, p) // it is taken back
	f.end(next)

	next = f.upgrade(p, "", "cba")
	f.write("a", "dcb") // the old one goes on serving, and has the key before the new one
	f.visits(10)
	f.call(next, "POST", "/rotate", []byte(lines("dcb")))
	f.write("b", "dcb")
	f.active("d", p, next, other)
	f.commit(p, next)
	p = next

	next = f.upgrade(p, "a", "") // a rollback to the binary that reads the file
	f.commit(p, next)
	p = next

	rotate("edc")
	f.end(p) // killed, and started from the file right after the change
	p = f.start("a", "")
	f.open(p)
	f.active("e", p, other)
	f.end(p)
	p = f.start("a", "")
	f.open(p)
	f.active("e", p)

	c.end()
	t.Logf("%d answers, %d cookies made anew, %d requests at killed processes", c.answers.Load(), c.renewed.Load(), c.errors.Load())
	if n := c.logouts.Load(); n > 0 || c.answers.Load() < 1000 || c.renewed.Load() < 50 {
		t.Errorf("%d logouts", n)
	}
}
