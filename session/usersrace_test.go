package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// A mortal store does what it is asked for until call number last. It fails then, before or after it has done what it was asked
// for, and if it is dead it fails from then on.
type mortal struct {
	session.Store
	last  int
	after bool // the last call is made, and its answer is lost
	dies  bool

	mu    sync.Mutex
	calls int
	ids   map[string]bool // all that anybody has tried to create
}

var errDead = errors.New("the store is dead")

func (m *mortal) do(id string, call func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	m.ids[id] = true
	switch {
	case m.calls > m.last && m.dies, m.calls == m.last && !m.after:
		return errDead
	case m.calls == m.last:
		_ = call()
		return errDead
	}
	return call()
}

func (m *mortal) Create(ctx context.Context, id string, data []byte, expires time.Time) (rev uint64, err error) {
	err = m.do(id, func() (err error) {
		rev, err = m.Store.Create(ctx, id, data, expires)
		return err
	})
	return rev, err
}

func (m *mortal) Load(ctx context.Context, id string) (rec session.Record, err error) {
	err = m.do(id, func() (err error) {
		rec, err = m.Store.Load(ctx, id)
		return err
	})
	return rec, err
}

func (m *mortal) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (next uint64, err error) {
	err = m.do(id, func() (err error) {
		next, err = m.Store.Swap(ctx, id, rev, data, expires)
		return err
	})
	return next, err
}

func (m *mortal) Touch(ctx context.Context, id string, expires time.Time) error {
	return m.do(id, func() error { return m.Store.Touch(ctx, id, expires) })
}

func (m *mortal) Delete(ctx context.Context, id string) error {
	return m.do(id, func() error { return m.Store.Delete(ctx, id) })
}

// A death is a way to fail at a step.
type death struct {
	step        int
	after, dies bool
}

func (d death) String() string {
	return fmt.Sprintf("step %d, after %v, dies %v", d.step, d.after, d.dies)
}

// ways is how many of the ways to fail are tried at each step: with -short only those that kill the process.
func ways() int {
	if testing.Short() {
		return 2
	}
	return 4
}

// Wherever a store fails or a process dies, each live session of a user can be revoked, a revoked one opens nothing, and who was
// logged in with success is logged in.
func TestADeathAtAnyStepLeavesNothingUnrevokable(t *testing.T) {
	for _, path := range []string{"/in?user=ann", "/in?user=bob", "/renew", "/logout", "/all?user=ann", "/others"} {
		for _, first := range []string{"anonymous", "ann"} {
			if first == "anonymous" && path == "/others" {
				continue
			}
			deaths := 0
			for step := 1; ; step++ {
				reached := false
				for i := range ways() {
					if dieAt(t, first, path, death{step, i%2 == 0, i/2 == 0}) {
						reached = true
						deaths++
					}
				}
				if !reached {
					break
				}
			}
			if deaths < 2 {
				t.Errorf("%s of %s: %d deaths", path, first, deaths)
			}
			t.Logf("%s of %s: %d deaths", path, first, deaths)
		}
	}
}

// dieAt sends one request whose store fails, and reports whether the store was asked so often.
func dieAt(t *testing.T, first, path string, d death) bool {
	t.Helper()
	dir := t.TempDir()
	keys, err := session.NewKeyRing(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	good := userSite(session.Dir(dir), session.Options{Keys: keys})
	v := newVisitor(t, good)
	v.get("/put?k=device&v=phone")
	if first == "ann" {
		v.get("/in?user=ann")
	}
	laptop := good.login(t, "ann", "laptop")
	store := &mortal{Store: session.Dir(dir), last: d.step, after: d.after, dies: d.dies, ids: map[string]bool{}}
	dying := v.with(userSite(store, session.Options{Keys: keys, Logger: slog.New(slog.DiscardHandler)}))
	res := dying.do(path)
	if store.calls < d.step {
		return false
	}
	after := userSite(session.Dir(dir), session.Options{Keys: keys})
	name := fmt.Sprintf("%s of %s, %v: %s", path, first, d, res.Status)
	before, now := v.with(after), dying.with(after)
	user := now.get("/who")
	if res.StatusCode == http.StatusOK {
		want := map[string]string{"/in?user=ann": "ann", "/in?user=bob": "bob", "/others": first}[path]
		if path == "/renew" && first == "ann" {
			want = "ann"
		}
		if user != want {
			t.Errorf("%s: the user is %q, want %q", name, user, want)
		}
	}
	wantListed(t, name, store)
	for _, user := range []string{"ann", "bob"} {
		if _, err := after.sm.RevokeAll(t.Context(), user); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, old := range []*visitor{before, now, laptop.with(after)} {
		if user := old.get("/who"); user != "" {
			t.Errorf("%s: a revoked session of %q", name, user)
		}
	}
	wantNoUser(t, name, store)
	return true
}

// wantListed checks that each live session of a user is in the record of the user.
func wantListed(t *testing.T, name string, store *mortal) {
	t.Helper()
	for id, user := range liveSessions(t, store) {
		if _, ok := sessionsOf(t, store.Store, user)[id]; !ok {
			t.Errorf("%s: a live session of %s is not listed", name, user)
		}
	}
}

func wantNoUser(t *testing.T, name string, store *mortal) {
	t.Helper()
	for id, user := range liveSessions(t, store) {
		t.Errorf("%s: the session %.8s of %s lives", name, id, user)
	}
}

// liveSessions are the users of the live sessions that anybody has touched through the store.
func liveSessions(t *testing.T, store *mortal) map[string]string {
	t.Helper()
	users := map[string]string{}
	for id := range store.ids {
		rec, err := store.Store.Load(t.Context(), id)
		if errors.Is(err, session.ErrNotFound) || strings.HasPrefix(id, "user ") {
			continue
		}
		var env struct {
			User string
			Gone int64
		}
		if err := errors.Join(err, json.Unmarshal(rec.Data, &env)); err != nil {
			t.Fatal(err)
		}
		if env.User != "" && env.Gone == 0 {
			users[id] = env.User
		}
	}
	return users
}

// A device is a visitor who logs in again and again.
type userDevice struct {
	mu     sync.Mutex
	v      *visitor
	logins int // how often the device has logged in
}

// Users log in, renew and write in two processes, while their sessions are revoked: what was logged in before the revocation
// is out when it has ended, whatever renewals were on their way, and no login or revocation is an error that is not ErrGone.
func TestARevocationAmongLoginsAndRenewalsMissesNone(t *testing.T) {
	a, b := twoSites(t)
	sites := []*site{a, b}
	devices := make([]*userDevice, 6)
	var stop atomic.Bool
	var all sync.WaitGroup
	var steps, gone atomic.Int64
	for i := range devices {
		d := &userDevice{v: newVisitor(t, a)}
		devices[i] = d
		all.Go(func() {
			for !stop.Load() {
				d.step(t, sites[rand.N(2)], &steps, &gone)
			}
		})
	}
	for range 10 {
		begun := steps.Load()
		testutil.Within(5*time.Second, func() bool { return steps.Load() > begun+10 })
		before := make([]int, len(devices))
		for i, d := range devices {
			before[i] = d.count()
		}
		if _, err := sites[rand.N(2)].sm.RevokeAll(t.Context(), "ann"); err != nil {
			t.Errorf("RevokeAll = %v", err)
		}
		for i, d := range devices {
			d.check(t, sites[rand.N(2)], before[i])
		}
	}
	stop.Store(true)
	all.Wait()
	if _, err := a.sm.RevokeAll(t.Context(), "ann"); err != nil {
		t.Error(err)
	}
	for _, d := range devices {
		d.v.with(b).want("/who", "")
	}
	if infos, err := b.sm.List(t.Context(), "ann"); err != nil || len(infos) > 0 {
		t.Errorf("List = %v, %v", infos, err)
	}
	t.Logf("%d requests, %d of them refused, 10 revocations", steps.Load(), gone.Load())
}

func (d *userDevice) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logins
}

// step sends one request, in whatever process.
func (d *userDevice) step(t *testing.T, s *site, steps, gone *atomic.Int64) {
	steps.Add(1)
	path := []string{"/renew", "/count", "/renew", "/who"}[rand.N(4)]
	if d.v.with(s).get("/who") == "" {
		path = "/in?user=ann"
	}
	v := d.v.with(s)
	if path != "/in?user=ann" {
		res := v.do(path)
		if res.StatusCode == http.StatusConflict {
			gone.Add(1)
		} else if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, res.Status)
		}
		d.keep(v)
		return
	}
	d.mu.Lock() // a login counts as done, or as not begun
	defer d.mu.Unlock()
	switch res := v.do(path); res.StatusCode {
	case http.StatusOK:
		d.logins++
		d.v.mu.Lock()
		d.v.cookie = v.cookie
		d.v.mu.Unlock()
	case http.StatusConflict:
		gone.Add(1)
	default:
		t.Errorf("%s: %s", path, res.Status)
	}
}

// keep takes the cookie of an answer.
func (d *userDevice) keep(v *visitor) {
	d.v.mu.Lock()
	defer d.v.mu.Unlock()
	d.v.cookie = v.cookie
}

// check asks who the device is, unless it has logged in since the count was taken.
func (d *userDevice) check(t *testing.T, s *site, before int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.logins != before {
		return
	}
	if user := d.v.with(s).get("/who"); user != "" {
		t.Errorf("a revoked session of %q", user)
	}
}
