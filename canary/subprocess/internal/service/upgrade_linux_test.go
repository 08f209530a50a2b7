package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

var (
	hostUpgrades = flag.Int("midair.host-upgrades", 20, "how many upgrades the test of upgrades makes; at most 3 with -short")
	hostKills    = flag.Int("midair.host-kills", 20, "how many hosts TestKilledHostLeavesNoProcess kills; at most 4 with -short")
)

// shop is the handler of both sides. It says who answers.
func shop(version, dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", version)
		w.Header().Set("X-Pid", strconv.Itoa(os.Getpid()))
		switch r.URL.Path {
		case "/slow":
			time.Sleep(30 * time.Millisecond)
		case "/hold":
			testutil.Within(time.Minute, func() bool { return exists(dir + "/go-on") })
		case "/bad":
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// host is the main of a service with a canary in a process of its own, under the supervisor.
func host() {
	if code, ok := upgrade.Supervise(upgrade.Options{Guard: 10 * time.Millisecond, GiveUp: -1}); ok {
		os.Exit(code)
	}
	if err := runHost(os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// hostStatus is the answer of the host to /status.
type hostStatus struct {
	PID     int
	Upgrade upgrade.Status
	Cart    subprocess.Status
	Rollout rollout.Status
}

func runHost(dir, addr string) error {
	up, err := upgrade.New(upgrade.Options{Soak: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	defer up.Close()
	up.Check("good", func(context.Context) error {
		if exists(dir + "/bad") {
			return errors.New("this build is bad")
		}
		return nil
	})
	ln, err := up.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ro, err := rollout.New(rollout.Options{
		Name: "cart", Salt: "cart of today", Steps: rollout.Steps{{Weight: .5, For: 24 * time.Hour}}, Worse: rollout.Hold,
		Judge:     judge.Options{Fast: time.Hour}, // only errors change the evidence
		Broadcast: up.Broadcast, Follows: func() bool { return up.Status().State != "serving" },
	})
	if err != nil {
		return err
	}
	up.Keep("cart", ro)
	up.OnBroadcast("cart", ro.Ingest)
	cart, err := subprocess.Start(context.Background(), subprocess.Options{ // before Run: no candidate is prepared without a process
		Name: "cart", Dir: dir + "/s", Cmd: func() *exec.Cmd {
			if exists(dir + "/missing") {
				return exec.Command(dir + "/no program")
			}
			return exec.Command(os.Args[0], "shop", dir)
		},
	})
	if err != nil {
		return err
	}
	defer cart.Close() // after Run, which returns when the requests have ended
	mux := http.NewServeMux()
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(hostStatus{os.Getpid(), up.Status(), cart.Status(), ro.Status()})
	})
	mux.Handle("/", canary.NewRouter(shop("stable", dir), cart, canary.Options{
		Salt: ro.Salt(), Weight: ro.Weight, Begin: ro.Begin, Observe: ro.Observe, Rescue: &canary.Rescue{Unserved: true},
		Key: func(r *http.Request) string { return r.Header.Get("X-User") },
	}))
	srv := drain.NewServer(&http.Server{Handler: mux}, drain.Options{Move: up.Move})
	return up.Run(context.Background(), func(ctx context.Context) error {
		drained, done := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan struct{})
		go func() { // ends when the requests have ended
			defer close(ended)
			_ = ro.Run(drained)
		}()
		defer func() { done(); <-ended }()
		return srv.Serve(ctx, ln)
	})
}

// A service is a running host.
type service struct {
	t         *testing.T
	dir, addr string
	proc      *testutil.Proc // the supervisor
}

func startService(t *testing.T) *service {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, dir: shortDir(t), addr: testutil.FreeAddr(t)}
	s.proc = testutil.StartCommand(t, testutil.Cfg{}, self, "host", s.dir, s.addr)
	t.Cleanup(func() { // a stop ends all processes
		s.proc.Signal(syscall.SIGTERM)
		s.proc.WaitFamily(t, 0, time.Minute)
	})
	s.settled()
	return s
}

// ask sends a request on a connection of its own.
func (s *service) ask(path, user string) (*http.Response, error) {
	req, err := http.NewRequest("GET", "http://"+s.addr+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-User", user)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	return client.Do(req)
}

// status returns the status of the host that answers.
func (s *service) status() (st hostStatus, err error) {
	res, err := s.ask("/status", "")
	if err != nil {
		return st, err
	}
	defer res.Body.Close()
	return st, json.NewDecoder(res.Body).Decode(&st)
}

// who returns the side and the process that answer a user.
func (s *service) who(path, user string) (side string, pid int) {
	s.t.Helper()
	res, err := s.ask(path, user)
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	pid, err = strconv.Atoi(res.Header.Get("X-Pid"))
	if err != nil {
		s.t.Fatalf("the answer to %s is %s, and has no pid", path, res.Status)
	}
	return res.Header.Get("X-Version"), pid
}

// sides returns the side of each user.
func (s *service) sides() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	for i := range 60 {
		user := fmt.Sprint("user ", i)
		all[user], _ = s.who("/", user)
	}
	return all
}

// onCanary returns a user of the canary.
func (s *service) onCanary() string {
	s.t.Helper()
	for user, side := range s.sides() {
		if side == "canary" {
			return user
		}
	}
	s.t.Fatal("no user is on the side of the canary")
	return ""
}

// children returns the living processes of a program, with their parents. The supervisor is none of them.
func (s *service) children(program string) map[int]int {
	all := map[int]int{}
	for _, pid := range s.proc.Family() {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // both are empty if the process has ended
		if words := bytes.Split(args, []byte{0}); pid == s.proc.PID() || len(words) < 2 || string(words[1]) != program {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 {
			all[pid], _ = strconv.Atoi(fields[1])
		}
	}
	return all
}

// settled waits until one host lives, which serves, and has one process.
func (s *service) settled() (st hostStatus) {
	s.t.Helper()
	testutil.Until(s.t, time.Minute, "one host with one process", func() bool {
		var err error
		st, err = s.status()
		return err == nil && st.Upgrade.State == "serving" && st.Cart.PID != 0 && st.Rollout.Weight == .5 &&
			maps.Equal(s.children("shop"), map[int]int{st.Cart.PID: st.PID}) &&
			slices.Equal(slices.Collect(maps.Keys(s.children("host"))), []int{st.PID})
	})
	return st
}

// upgrade upgrades the host, and returns the status when the old one has ended.
func (s *service) upgrade() hostStatus {
	s.t.Helper()
	old := s.settled()
	s.proc.Signal(syscall.SIGHUP)
	testutil.Until(s.t, time.Minute, "another host", func() bool {
		st, err := s.status()
		return err == nil && st.PID != old.PID && st.Upgrade.State == "serving"
	})
	return s.settled()
}

// A host that is upgraded under load, again and again, loses no request, has one process after each upgrade, and goes on with the
// same cohort, salt and weight, and with the same evidence to the bit. In the end each request has counted once.
func TestHostUpgradeKeepsTheCanary(t *testing.T) {
	t.Parallel()
	n := *hostUpgrades
	if testing.Short() {
		n = min(n, 3)
	}
	s := startService(t)
	sides := s.sides()
	asked := len(sides)
	for i := range 40 {
		s.who("/bad", fmt.Sprint("user ", i))
		asked++
	}
	load := testutil.StartLoad(t, testutil.LoadOptions{
		Addr: s.addr, KeepAlive: 6, New: 2, SlowEvery: 10, Think: 2 * time.Millisecond,
	})
	before := s.settled()
	for i := range n {
		after := s.upgrade()
		if after.Cart.PID == before.Cart.PID || after.Cart.Starts != 1 || after.Cart.Failures != 0 {
			t.Errorf("upgrade %d: the process was %+v, and is %+v", i+1, before.Cart, after.Cart)
		}
		a, b := before.Rollout, after.Rollout
		if math.Float64bits(a.Judge.Evidence) != math.Float64bits(b.Judge.Evidence) || a.Judge.Evidence == 1 {
			t.Errorf("upgrade %d: the evidence was %v, and is %v", i+1, a.Judge.Evidence, b.Judge.Evidence)
		}
		if a.Salt != b.Salt || a.Weight != b.Weight || a.Judge.Canary.Bad != b.Judge.Canary.Bad || a.Judge.Canary.Bad == 0 {
			t.Errorf("upgrade %d: the rollout was %+v, and is %+v", i+1, a, b)
		}
		again := s.sides()
		asked += len(again)
		if !maps.Equal(sides, again) {
			t.Errorf("upgrade %d: the sides of the users were %v, and are %v", i+1, sides, again)
		}
		before = after
	}
	report := load.Stop()
	t.Logf("%d upgrades: %s; evidence %v", n, report, before.Rollout.Judge.Evidence)
	wantNoFailure(t, report)
	var counted uint64
	if !testutil.Within(10*time.Second, func() bool {
		st, err := s.status()
		counted = st.Rollout.Judge.Canary.Requests + st.Rollout.Judge.Stable.Requests
		return err == nil && counted == uint64(report.Total+asked)
	}) {
		t.Errorf("%d requests have counted of %d", counted, report.Total+asked)
	}
}

// A request that the old host's process has begun is answered by that process, however late. The process ends after that, with the
// old host.
func TestOldProcessAnswersWhatItHasBegun(t *testing.T) {
	t.Parallel()
	s := startService(t)
	old, user := s.settled(), s.onCanary()
	answered := make(chan string, 1)
	go func() { // ends with the answer
		res, err := s.ask("/hold", user)
		if err != nil {
			answered <- err.Error()
			return
		}
		res.Body.Close()
		answered <- res.Header.Get("X-Version") + " " + res.Header.Get("X-Pid")
	}()
	testutil.Until(t, time.Minute, "the request", func() bool {
		st, err := s.status()
		return err == nil && st.Cart.InFlight == 1
	})
	s.proc.Signal(syscall.SIGHUP)
	testutil.Until(t, time.Minute, "another host", func() bool {
		st, err := s.status()
		return err == nil && st.PID != old.PID && st.Upgrade.State == "serving"
	})
	if _, pid := s.who("/", user); pid == old.Cart.PID || len(s.children("shop")) != 2 {
		t.Errorf("process %d answers, and the processes are %v: want that of the new host, and two", pid, s.children("shop"))
	}
	if err := os.WriteFile(s.dir+"/go-on", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := <-answered, fmt.Sprint("canary ", old.Cart.PID); got != want {
		t.Errorf("the answer is of %q, want %q", got, want)
	}
	s.settled()
}

// An upgrade that is taken back, because the new host fails its check or its process does not start, leaves the process of the
// old host as that was, and none of the new host.
func TestUpgradeTakenBackLeavesTheProcess(t *testing.T) {
	t.Parallel()
	s := startService(t)
	old, user := s.settled(), s.onCanary()
	var last *upgrade.Outcome
	for _, fault := range []string{"bad", "missing"} {
		if err := os.WriteFile(s.dir+"/"+fault, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.proc.Signal(syscall.SIGHUP)
		testutil.Until(t, time.Minute, "the end of the upgrade", func() bool {
			st, err := s.status()
			ended := err == nil && st.Upgrade.Last != nil && (last == nil || st.Upgrade.Last.Begun != last.Begun)
			if ended {
				last = st.Upgrade.Last
			}
			return ended
		})
		st := s.settled()
		if last.Committed || st.PID != old.PID || st.Cart.PID != old.Cart.PID || st.Cart.Starts != 1 || st.Cart.Failures != 0 {
			t.Errorf("%s: %+v: the host is %d with %+v, and was %d with %+v", fault, last, st.PID, st.Cart, old.PID, old.Cart)
		}
		if side, pid := s.who("/", user); side != "canary" || pid != old.Cart.PID {
			t.Errorf("%s: %s, process %d, answers, want the canary, %d", fault, side, pid, old.Cart.PID)
		}
		if err := os.Remove(s.dir + "/" + fault); err != nil {
			t.Fatal(err)
		}
	}
}

// A host that is killed at any moment of an upgrade, the old host or the new one, leaves no process: after that, one host serves,
// with one process, whose parent is that host.
func TestKilledHostLeavesNoProcess(t *testing.T) {
	t.Parallel()
	n := *hostKills
	if testing.Short() {
		n = min(n, 4)
	}
	s := startService(t)
	user := s.onCanary()
	begin := time.Now()
	s.upgrade()
	took, killed := time.Since(begin), 0
	for i := range n {
		st := s.settled()
		s.proc.Signal(syscall.SIGHUP)
		victim := st.PID
		if i%2 == 1 {
			victim = s.newHost(st.PID)
		}
		wait := rand.N(took)
		<-time.After(wait)
		if syscall.Kill(victim, syscall.SIGKILL) == nil { // or it has ended
			killed++
		}
		after := s.settled()
		if side, pid := s.who("/", user); side != "canary" || pid != after.Cart.PID {
			t.Errorf("kill %d, of %d after %v: %s, process %d, answers, want the canary, %d", i+1, victim, wait, side, pid, after.Cart.PID)
		}
	}
	t.Logf("%d of %d hosts were killed before they had ended, within %v of the begin of an upgrade", killed, n, took)
}

// newHost waits for another host than the old one.
func (s *service) newHost(old int) (pid int) {
	s.t.Helper()
	testutil.Until(s.t, time.Minute, "the new host", func() bool {
		for p := range s.children("host") {
			if p != old {
				pid = p
			}
		}
		return pid != 0
	})
	return pid
}
