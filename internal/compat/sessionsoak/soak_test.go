package sessionsoak

import (
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/internal/testutil/servers"
)

var (
	upgrades    = flag.Int("midair.upgrades", 10, "how many upgrades each engine goes through")
	progressive = flag.Int("midair.progressive", 3, "how many progressive upgrades each engine goes through")
)

const (
	patience = 30 * time.Second
	visitors = 12
)

// An engine keeps the sessions. kill and restart are nil where there is no server.
type engine struct {
	source      string
	kill, start func()
	restart     func()
}

// Every visitor's /count is exact through upgrades and progressive upgrades under load, and no request is lost. While the
// engine under the sessions is away, pages without session use are served and /count is refused in time; when it is back,
// every visitor counts on.
func TestEveryCountIsExact(t *testing.T) {
	engines := map[string]func(t *testing.T) engine{
		"dir": func(t *testing.T) engine { return engine{source: filepath.Join(t.TempDir(), "sessions")} },
		"redis": func(t *testing.T) engine {
			r := servers.StartRedis(t)
			return engine{source: r.Addr, kill: r.Kill, start: r.Start, restart: r.Restart}
		},
		"postgres": func(t *testing.T) engine {
			p := servers.StartPostgres(t)
			return engine{source: "postgres://postgres@" + p.Addr + "/postgres?sslmode=disable", kill: p.Kill, start: p.Start, restart: p.Restart}
		},
	}
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			e := start(t)
			s := startService(t, name, e.source)
			pages := testutil.StartLoad(t, testutil.LoadOptions{Addr: s.addr, KeepAlive: 4, New: 2, Think: think})
			c := newCrowd(t, visitors, s.addr)
			c.wantMore(t, func(v *visitor) int { return v.counted })
			for range *upgrades / 2 {
				s.upgrade()
			}
			if e.kill != nil {
				e.outage(t, c)
			}
			for range *upgrades - *upgrades/2 {
				s.upgrade()
			}
			s.touch("progressive")
			for range *progressive {
				s.upgrade()
			}
			c.wantMore(t, func(v *visitor) int { return v.counted })
			testutil.Account(t, pages.Stop(), filepath.Join(s.dir, "journal")).MustBeClean(t)
			c.wantRight(t, e.kill != nil)
			t.Logf("%d upgrades", s.generation-1)
		})
	}
}

// outage kills the engine and starts it again, and restarts it in its normal way.
func (e engine) outage(t *testing.T, c *crowd) {
	t.Helper()
	counted, refused := func(v *visitor) int { return v.counted }, func(v *visitor) int { return v.refused }
	e.kill()
	c.wantMore(t, refused)
	e.start()
	c.wantMore(t, counted)
	e.restart()
	c.wantMore(t, counted)
}

// wantMore waits until what fn counts has grown by three for each visitor.
func (c *crowd) wantMore(t *testing.T, fn func(*visitor) int) {
	t.Helper()
	before := c.values(fn)
	testutil.Until(t, patience, "answers for each visitor", func() bool {
		for i, n := range c.values(fn) {
			if n < before[i]+3 {
				return false
			}
		}
		return true
	})
}

// wantRight ends the visits and checks all of them.
func (c *crowd) wantRight(t *testing.T, outage bool) {
	t.Helper()
	c.stop()
	s := c.sum()
	for _, w := range s.wrong {
		t.Error(w)
	}
	if !outage && s.refused > 0 {
		t.Errorf("%d requests were refused, and the store was never away", s.refused)
	}
	for i, v := range c.visitors {
		if len(v.versions) < *upgrades {
			t.Errorf("visitor %d was answered by %v only", i, v.versions)
		}
	}
	t.Logf("%d counted requests of %d visitors, %d refused, %d of which counted", s.counted, len(c.visitors), s.refused, s.extra)
}

// A service is a running service from the test's side.
type service struct {
	*testutil.Proc
	t          *testing.T
	dir, addr  string
	generation int
}

// startService starts version v1 by the link "current", which upgrades start too.
func startService(t *testing.T, store, source string) *service {
	t.Helper()
	s := &service{t: t, dir: t.TempDir(), generation: 1}
	s.link("v1")
	s.Proc = testutil.StartCommand(t, testutil.Cfg{Dir: s.dir}, filepath.Join(s.dir, "current"), "-store", store, "-source", source)
	s.addr = strings.TrimSpace(s.WaitOutput(patience, "serving at "))
	return s
}

func (s *service) link(version string) {
	s.t.Helper()
	path := testutil.Build(s.t, "github.com/midair-go/midair/internal/compat/sessionsoak/service", "-X main.version="+version)
	next := filepath.Join(s.dir, "next")
	if err := os.Symlink(path, next); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(s.dir, "current")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) touch(name string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// upgrade replaces the service by the other version, and waits until the new process is alone.
func (s *service) upgrade() {
	s.t.Helper()
	s.generation++
	s.link([]string{"v2", "v1"}[s.generation%2])
	b, err := os.ReadFile(filepath.Join(s.dir, "pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		s.t.Fatal(err)
	}
	main, err := os.FindProcess(pid)
	if err == nil {
		err = main.Signal(syscall.SIGHUP)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	testutil.Until(s.t, patience, "generation "+strconv.Itoa(s.generation), func() bool { return s.answering() == s.generation })
	s.WaitFamily(s.t, 2, patience) // and the supervisor
	if got := s.answering(); got != s.generation {
		s.t.Fatalf("generation %d answers after upgrade %d:\n%s", got, s.generation-1, s.Output())
	}
}

// answering is the generation that answers a new connection.
func (s *service) answering() int {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get("http://" + s.addr + "/work")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := strconv.Atoi(resp.Header.Get("X-Generation"))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
