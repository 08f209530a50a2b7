//go:build linux

package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() int{
		"service":  supervised,
		"launcher": func() int { return exitCode(launch()) },
		"listens":  func() int { return exitCode(listensMain()) },
		"talks":    func() int { return exitCode(talksMain()) },
	})
}

func exitCode(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "main:", err)
		return 1
	}
	return 0
}

// settings of the test service. A test writes them to the service's directory, and every generation reads them anew.
type settings struct {
	Addr, Network  string
	Soak, Timeout  time.Duration
	AbortGrace     time.Duration
	PIDFile        string
	Bad            string // how the next generation misbehaves
	NoNotes        bool   // it does not write down from where it has accepted
	Bake           string // what the judge says: "ok", "error", "panic", "forever"
	Plain          bool   // the next generation knows tableflip only
	NoFile         uint64 // limit of open files
	Smoke          string // what the smoke test does: see smoke
	Exclusive      string // the service holds a lock: "serving" or "background"
	MaxGenerations int
	Weights        []float64 // the steps of the judge "steps"
	Sticky         bool
	Silence        time.Duration
	IdleGrace      time.Duration
	NoMove         bool   // idle connections stay until they are closed
	Meddle         string // how the next generation's control socket is tampered with
	Verify         string // what Options.Verify does
	Version        string
	Names          string // network of a socket for datagrams that is served as well
	H2C            bool

	ReadTimeout, HeaderTimeout, IdleTimeout time.Duration
	Supervisor                              string        // see upgrade.Options; empty: never
	Guard                                   time.Duration // of the supervisor
	MaxRestarts                             int
	Watchdog                                time.Duration
	Systemd                                 bool   // listens on what the sockets "web" and "admin" of a service manager are
	Serve                                   string // what every generation does when it serves: "crash", "hang"
}

// grace is how long the service may drain: longer than any test holds a request.
const grace = 2 * time.Minute

const dirEnv = "MIDAIR_SVC_DIR"

func readSettings() (s settings, dir string, err error) {
	dir = os.Getenv(dirEnv)
	b, err := os.ReadFile(filepath.Join(dir, "settings"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, dir, err
}

// serviceMain is an ordinary program that uses the library: two listeners, one value to keep, a server that drains.
func serviceMain() error {
	upgrade.SetStepHook(testutil.Fault)
	set, dir, err := readSettings()
	if err != nil {
		return err
	}
	if set.Plain {
		return plainMain()
	}
	isUpgrade := os.Getenv("TABLEFLIP_HAS_PARENT_7DIU3") != ""
	if isUpgrade && set.Bad == "start" {
		os.Exit(7)
	}
	if isUpgrade && set.Bad == "hang" {
		select {}
	}
	if isUpgrade && set.Bad == "inspect" {
		os.Exit(inspect())
	}
	heard, err := meddle(set.Meddle)
	if err != nil {
		return err
	}
	defer heard()
	up, err := upgrade.New(options(set, dir))
	if err != nil {
		return err
	}
	defer up.Close()
	testutil.SetGeneration(up.Status().Generation)
	svc := &service{up: up, set: set, dir: dir, value: &value{}, upgraded: isUpgrade}
	return svc.run()
}

func options(set settings, dir string) upgrade.Options {
	opts := upgrade.Options{
		Executable: filepath.Join(dir, "exe"),
		Soak:       set.Soak, Timeout: set.Timeout, AbortGrace: set.AbortGrace,
		PIDFile: set.PIDFile, MaxGenerations: set.MaxGenerations,
		Sticky: set.Sticky, Silence: set.Silence,
	}
	if set.Smoke != "" {
		opts.Smoke = smoke
	}
	if set.Bake != "" {
		opts.Bake = func(ctx context.Context, c *upgrade.Candidate) error { return bake(ctx, dir, c) }
	}
	return moreOptions(opts, set, dir)
}

func bake(ctx context.Context, dir string, c *upgrade.Candidate) error {
	set, _, err := readSettings()
	switch {
	case err != nil:
		return err
	case set.Bake == "panic":
		panic("the judge fell over")
	case set.Bake == "error":
		return errors.New("too many errors")
	case set.Bake == "toggle":
		return toggle(ctx, c)
	case set.Bake == "steps":
		return steps(ctx, set, dir, c)
	case set.Bake == "listen" || set.Bake == "object":
		return judgeNews(ctx, set, c)
	case set.Bake == "forever":
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

type service struct {
	up       *upgrade.Upgrader
	set      settings
	dir      string
	value    *value
	upgraded bool
	lock     *lock
	end      context.CancelCauseFunc // of serve's context
}

// value is what the service keeps: a number that requests raise.
type value struct {
	mu     sync.Mutex
	n      int
	refuse string // "always", or "commit": the second time
	times  int
	hang   atomic.Bool // MarshalBinary does not return
	fail   atomic.Bool // it returns an error
}

func (v *value) MarshalBinary() ([]byte, error) {
	if v.hang.Load() {
		fmt.Fprintln(os.Stderr, hangs)
		select {}
	}
	if v.fail.Load() {
		return nil, errors.New("not now")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return []byte(strconv.Itoa(v.n)), nil
}

func (v *value) UnmarshalBinary(b []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.times++
	if v.refuse == "always" || v.refuse == "commit" && v.times > 1 {
		return errors.New("not in this shape")
	}
	n, err := strconv.Atoi(string(b))
	v.n = max(v.n, n)
	return err
}

func (v *value) add() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n++
	return v.n
}

func (s *service) run() error {
	if s.upgraded {
		s.value.refuse = strings.TrimPrefix(s.set.Bad, "refuse-")
	}
	s.up.Keep("value", s.value)
	s.up.Check("good", s.check)
	s.exclusive()
	ln, err := s.listen()
	if err != nil {
		return err
	}
	admin, err := s.listenAdmin()
	if err != nil {
		return err
	}
	names, err := s.openNames()
	if err != nil {
		return err
	}
	if !s.upgraded { // it stays what it is
		if err := os.WriteFile(filepath.Join(s.dir, "addr"), []byte(ln.Addr().String()), 0o600); err != nil {
			return err
		}
	}
	if err := setNoFile(s.set.NoFile); err != nil {
		return err
	}
	j, err := testutil.OpenJournal(filepath.Join(s.dir, "journal"))
	if err != nil {
		return err
	}
	defer j.Close()
	opts := drain.Options{Grace: grace, IdleGrace: s.set.IdleGrace, Move: s.up.Move, Offers: s.up.Offers(), Hurry: s.up.Hurry()}
	if s.set.NoMove {
		opts.Move = nil
	}
	hs := &http.Server{Handler: s.handler(j)}
	if !s.set.NoNotes {
		hs.ConnState = s.noteAccepted()
	}
	hs.ReadTimeout, hs.ReadHeaderTimeout, hs.IdleTimeout = s.set.ReadTimeout, s.set.HeaderTimeout, s.set.IdleTimeout
	if s.set.H2C {
		hs.Protocols = new(http.Protocols)
		hs.Protocols.SetHTTP1(true)
		hs.Protocols.SetUnencryptedHTTP2(true)
	}
	srv := drain.NewServer(hs, opts)
	adm := drain.NewServer(&http.Server{Handler: s.admin()}, drain.Options{Grace: grace})
	return s.up.Run(context.Background(), s.serving(func(ctx context.Context) error {
		done := make(chan error, 1)
		go func() { done <- adm.Serve(ctx, admin) }()
		named := names.serve(ctx)
		return errors.Join(srv.Serve(ctx, ln), <-done, <-named)
	}))
}

func network(s settings) string {
	if s.Network == "" {
		return "tcp"
	}
	return s.Network
}

func (s *service) check(ctx context.Context) error {
	if !s.upgraded {
		return nil
	}
	switch s.set.Bad {
	case "check", "check-newsock":
		return errors.New("the database is not there")
	case "check-long":
		return errors.New(strings.Repeat("x", 40<<10))
	case "check-panic":
		panic("nil map")
	case "check-hang":
		<-ctx.Done()
		return ctx.Err()
	case "check-wait":
		return s.released(ctx)
	case "crash":
		go func() { panic("a bug in the new release") }()
		<-ctx.Done()
	}
	return nil
}

func (s *service) handler(j *testutil.Journal) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.FormValue("n"), b)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.FormValue("d"))
		time.Sleep(max(d, 50*time.Millisecond))
	})
	mux.HandleFunc("/add", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, s.value.add()) })
	mux.HandleFunc("/held", func(w http.ResponseWriter, r *http.Request) {
		if s.lock == nil || s.lock.file == nil {
			http.Error(w, "it is not held here", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, os.Getpid())
	})
	st := s.up.Status()
	fault := s.faulty()
	tagged := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Generation", strconv.Itoa(st.Generation))
		h.Set("X-Version", "g"+strconv.Itoa(st.Generation))
		h.Set("X-Pid", strconv.Itoa(st.PID))
		if !fault(w) {
			mux.ServeHTTP(w, r)
		}
	})
	return j.Handler(tagged)
}

// answer is what the admin socket says about an upgrade.
type answer struct {
	Committed, InProgress, NotReady, Aborted bool
	SameBuild, NotSupported                  bool
	PID                                      int
	Phase, Reason, Error                     string
	Goroutines, FDs, Children                int
	Status                                   upgrade.Status
}

func (s *service) admin() http.Handler {
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, err error) {
		a := answer{Committed: err == nil, Status: s.up.Status()}
		if err != nil {
			a.Error = err.Error()
		}
		if e := (*upgrade.Error)(nil); errors.As(err, &e) {
			a.Phase, a.Reason, a.PID = string(e.Phase), e.Reason, e.PID
		}
		a.InProgress, a.NotReady = errors.Is(err, upgrade.ErrInProgress), errors.Is(err, upgrade.ErrNotReady)
		a.Aborted, a.SameBuild = errors.Is(err, upgrade.ErrAborted), errors.Is(err, upgrade.ErrSameBuild)
		a.NotSupported = errors.Is(err, upgrade.ErrNotSupported)
		a.Goroutines, a.FDs, a.Children = testutil.Counts()
		json.NewEncoder(w).Encode(a)
	}
	mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, r *http.Request) {
		reply(w, s.up.Restart(context.WithoutCancel(r.Context()))) // the test binary is every version
	})
	mux.HandleFunc("POST /upgrade-while-connected", func(w http.ResponseWriter, r *http.Request) { reply(w, s.up.Restart(r.Context())) })
	mux.HandleFunc("POST /dial-late", func(w http.ResponseWriter, r *http.Request) {
		_, err := remembered.Dial(r.Context())
		reply(w, err)
	})
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) { reply(w, s.up.Publish("news", nil)) })
	mux.HandleFunc("POST /rollback", func(w http.ResponseWriter, r *http.Request) {
		reply(w, s.up.Rollback(context.WithoutCancel(r.Context())))
	})
	mux.HandleFunc("POST /rehearse", func(w http.ResponseWriter, r *http.Request) {
		reply(w, s.up.Rehearse(context.WithoutCancel(r.Context())))
	})
	mux.HandleFunc("POST /commit", func(w http.ResponseWriter, r *http.Request) { reply(w, s.up.Commit()) })
	mux.HandleFunc("POST /abort", func(w http.ResponseWriter, r *http.Request) { reply(w, s.up.Abort("by hand")) })
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { reply(w, nil) })
	s.spoil(mux, reply)
	s.more(mux, reply)
	return mux
}

func setNoFile(n uint64) error {
	if n == 0 {
		return nil
	}
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
}

// moreOptions adds the judges that settings ask for.
func moreOptions(o upgrade.Options, set settings, dir string) upgrade.Options {
	o.Version = set.Version
	if set.Bake == "dial" {
		o.Bake = mustRefuseDial
	}
	if set.Verify != "" {
		o.Verify = func(path string) error { return verify(set.Verify, dir, path) }
	}
	return o
}

// released waits for the test.
func (s *service) released(ctx context.Context) error {
	fmt.Fprintln(os.Stderr, waitsForRelease)
	for ctx.Err() == nil {
		if exists(filepath.Join(s.dir, "release")) {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // this is the work
	}
	return ctx.Err()
}

const waitsForRelease = "the check waits"

// mustRefuseDial is content with a candidate that knows no private connections.
func mustRefuseDial(ctx context.Context, c *upgrade.Candidate) error {
	conn, err := c.Dial(ctx)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, upgrade.ErrNotSupported) {
		return errors.Join(errors.New("there is a private connection"), err)
	}
	return nil
}

// more are the ways to replace the service that the test binary alone would not need.
func (s *service) more(mux *http.ServeMux, reply func(http.ResponseWriter, error)) {
	mux.HandleFunc("POST /upgrade-to-the-file", func(w http.ResponseWriter, r *http.Request) { reply(w, s.up.Upgrade(r.Context())) })
}
