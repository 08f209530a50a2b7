//go:build linux

package upgrade_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// The names of the test service's sockets in systemd's store. The manager of the test replaces the name of the service's
// directory by svc0.
const (
	tcpName  = "midair.listener.tcp.127.0.0.1%3A0"
	unixName = "midair.listener.unix./tmp/svc0/admin.sock"
)

func said(pid int, text string) testclient.Datagram { return testclient.Datagram{PID: pid, Text: text} }

func kept(pid int) []testclient.Datagram {
	return []testclient.Datagram{
		said(pid, "FDSTORE=1\nFDNAME="+tcpName+"\nFDPOLL=0"), said(pid, "FDSTORE=1\nFDNAME="+unixName+"\nFDPOLL=0"),
	}
}

func ready(pid, generation int, more string) testclient.Datagram {
	return said(pid, fmt.Sprintf("READY=1\nMAINPID=%d\nSTATUS=serving, generation %d, version devel%s", pid, generation, more))
}

func named(by, pid int) testclient.Datagram { return said(by, fmt.Sprintf("MAINPID=%d", pid)) }

func reloading(pid, generation int) testclient.Datagram {
	return said(pid, fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=0\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS=serving, generation %d, version devel: restart", generation))
}

func then(all ...any) (out []testclient.Datagram) {
	for _, v := range all {
		switch v := v.(type) {
		case testclient.Datagram:
			out = append(out, v)
		case []testclient.Datagram:
			out = append(out, v...)
		}
	}
	return out
}

// "systemctl restart" refuses no connection: systemd keeps the sockets until the next start, and connections from this time
// are answered.
func TestServiceManagerKeepsSocketsForARestart(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	r := m.Start(nil, nil)
	r.WaitServing(1, 0)
	r.Upgrade()
	r.WaitFamily(t, 1, patience)
	dead := r.MainPID()
	r.SignalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
	p := r.Connect()
	m.Launch(r, nil)
	testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead) })
	p.Ask("/add")
	p.Close()
}

// systemd receives exactly the expected messages, in order: at the start, in a good and in a failed upgrade, and at the stop.
func TestServiceManagerHearsEverythingInOrder(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	r := m.Start(nil, nil)
	one := r.MainPID()
	n := m.MustReceive(0, then(kept(one), ready(one, 1, ""))...)

	r.Upgrade()
	two := r.MainPID()
	n = m.MustReceive(n, then(reloading(one, 1), named(one, two), said(one, "BARRIER=1"), kept(two), ready(two, 2, ""))...)
	r.WaitFamily(t, 1, patience)

	r.Change(func(s *plan.Settings) { s.Bad = plan.CheckFails })
	r.MustFail("check", "the database is not there")
	n = m.MustReceive(n, reloading(two, 2), ready(two, 2, `; the last upgrade failed: check: check "good": the database is not there`))

	if got, want := len(m.Stored()), 2; got != want {
		t.Errorf("the store has %q", m.Stored())
	}
	r.SignalMain(syscall.SIGTERM)
	m.MustReceive(n, said(two, "STOPPING=1\nSTATUS=stopping: SIGTERM"))
	r.WaitFamily(t, 0, patience)
	if m.Count() != n+1 {
		t.Errorf("after the stop it heard %v", m.Since(n+1))
	}
	if len(m.Stored()) != 2 { // systemd drops the sockets itself, unless it starts the service again
		t.Errorf("the store has %q after the stop", m.Stored())
	}
}

// If a candidate dies after it has become the service and before the old process knows this, the old process serves on, and
// notifies systemd.
func TestServiceManagerHearsWhoHasTakenTheServiceBack(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	f := testclient.FaultAt(t, "new.ready", "kill")
	r := m.Start(nil, nil, f.Env)
	one := r.MainPID()
	n := m.MustReceive(0, then(kept(one), ready(one, 1, ""))...)
	a := r.Ask("POST", "/upgrade")
	if a.Committed {
		t.Fatal("the upgrade was committed by a dead process")
	}
	m.MustReceive(n, then(reloading(one, 1), ready(one, 1, "; the last upgrade failed: commit: it ended: signal: killed"))...)
}

// A process that is started after a crash gets the sockets that systemd keeps for the service, and no connection is refused in
// between. systemd drops the sockets that the new process does not use.
func TestStoreBringsSocketsBackAfterACrash(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	r := m.Start(nil, nil)
	addr := r.Addr
	l := r.Load(smallLoad)
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > 100 })
	dead := r.MainPID()
	kills := []time.Time{time.Now()}
	r.SignalMain(syscall.SIGKILL)
	r.WaitFamily(t, 0, patience)
	extra, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	file, err := extra.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	m.Store("midair.listener.tcp.127.0.0.1%3A9", file) // as if an older build had opened this socket
	r.Proc = m.Launch(r, nil)
	testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead) })
	b, err := os.ReadFile(filepath.Join(r.Dir, "addr"))
	if err != nil || string(b) != addr {
		t.Errorf("it serves on %q, not %q: %v", b, addr, err)
	}
	answered := l.Total()
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > answered+100 })
	a := r.Account(l)
	t.Log(a)
	if a.Counts[testutil.Refused] > 0 {
		t.Errorf("%d connections were refused", a.Counts[testutil.Refused])
	}
	r.MustHaveLostOnlyThen(a, kills, []int{dead})
	testutil.Until(t, patience, "what nobody uses is dropped", func() bool { return len(m.Stored()) == 2 })
}

// A service with socket units listens on the sockets by their names, and so do its next generations. systemd owns these
// sockets: the service neither stores them in systemd nor removes their paths.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	sockets := m.Sockets()
	ln, err := net.FileListener(sockets["web"])
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	r := m.Start(func(s *plan.Settings) { s.Systemd = true }, sockets)
	if err := os.Symlink(m.Dir+"/admin.sock", r.Dir+"/admin.sock"); err != nil {
		t.Fatal(err)
	}
	if r.Addr != addr {
		t.Fatalf("it serves on %s, not on the socket %s", r.Addr, addr)
	}
	l := r.Load(smallLoad)
	for range 3 {
		r.Upgrade()
	}
	testutil.Until(t, patience, "generation 4 answers", func() bool { return l.Seen("g4") })
	r.Account(l).MustBeClean(t)
	r.SignalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
	if _, err := os.Stat(m.Dir + "/admin.sock"); err != nil {
		t.Errorf("the path of a socket unit is gone: %v", err)
	}
	for _, d := range m.Since(0) {
		if strings.Contains(d.Text, "FDSTORE") {
			t.Errorf("heard %q", d.Text)
		}
	}
}

// A passed socket is used for its address, whatever name the socket has.
func TestSocketActivationByAddress(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	sockets := m.Sockets()
	ln, err := net.FileListener(sockets["web"])
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	r := m.Start(func(s *plan.Settings) { s.Addr = addr }, sockets) // a new socket would fail, because the address is in use
	r.Upgrade()
	r.WaitFamily(t, 1, patience)
}

// Only the main generation sends watchdog messages, and neither the candidate nor a generation that drains.
func TestWatchdogHearsTheMainGeneration(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	r := m.Start(func(s *plan.Settings) { s.Soak = time.Minute }, nil, "WATCHDOG_USEC=150000")
	more := func(pid int) {
		t.Helper()
		before := m.Pings(pid)
		testutil.Until(t, patience, fmt.Sprintf("pings of %d", pid), func() bool { return m.Pings(pid) >= before+5 })
	}
	one := r.MainPID()
	more(one)
	held := r.Dial().Begin()
	go func() { _, _ = r.TryAsk(t.Context(), "POST", "/upgrade") }()
	r.WaitPhase("soak")
	more(one)
	two := r.Candidate()
	if n := m.Pings(two); n > 0 {
		t.Errorf("%d pings of a candidate", n)
	}
	r.Ask("POST", "/commit")
	testutil.Until(t, patience, "the candidate serves", func() bool { return r.MainPID() == two })
	more(two)
	before := m.Pings(one)
	more(two)
	if n := m.Pings(one); n > before {
		t.Errorf("%d pings of the process that drains", n-before)
	}
	held.Finish()
	if !slices.Contains(r.Family(), two) {
		t.Error("the main generation has gone")
	}
}

// A unit that is Type=simple ends with its first process, so an upgrade is refused before anything is started, with the reason.
func TestSimpleUnitRefusesUpgrades(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Simple = true })
	r.WaitServing(1, 0)
	r.MustFail("start", "Type=simple or exec: call upgrade.Supervise")
}

// If an old process is slow after the commit, and its successor has been replaced by then, the old process does not name the
// successor. Otherwise systemd would take the end of the successor for the end of the service.
func TestSlowOldProcessNamesNobody(t *testing.T) {
	t.Parallel()
	m := testclient.NewManager(t)
	f := testclient.FaultAt(t, "old.confirmed", "hold")
	r := m.Start(nil, nil, f.Env)
	one := r.MainPID()
	r.BeginUpgrade()
	f.Held(r)
	r.WaitServing(2, one)
	two := r.MainPID()
	r.Upgrade()
	r.WaitServing(3, two)
	f.GoOn(t)
	r.WaitFamily(t, 1, patience)
	main := ""
	for _, d := range m.Since(0) {
		for line := range strings.Lines(d.Text) {
			if pid, ok := strings.CutPrefix(line, "MAINPID="); ok {
				main = strings.TrimSpace(pid)
			}
		}
	}
	if main != fmt.Sprint(r.MainPID()) {
		t.Errorf("the manager was told %s last, and %d serves", main, r.MainPID())
	}
}
