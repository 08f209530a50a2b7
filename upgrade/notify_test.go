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
)

// The messages of the test service, with its directory's name made even.
const (
	tcpName  = "midair.listener.tcp.127.0.0.1%3A0"
	unixName = "midair.listener.unix./tmp/svc0/admin.sock"
)

func kept(pid int) []datagram {
	return []datagram{
		{pid, "FDSTORE=1\nFDNAME=" + tcpName + "\nFDPOLL=0"}, {pid, "FDSTORE=1\nFDNAME=" + unixName + "\nFDPOLL=0"},
	}
}

func ready(pid, generation int, more string) datagram {
	return datagram{pid, fmt.Sprintf("READY=1\nMAINPID=%d\nSTATUS=serving, generation %d, version devel%s", pid, generation, more)}
}

func reloading(pid, generation int) datagram {
	return datagram{pid, fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=0\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS=serving, generation %d, version devel: restart", generation)}
}

func then(all ...any) (out []datagram) {
	for _, v := range all {
		switch v := v.(type) {
		case datagram:
			out = append(out, v)
		case []datagram:
			out = append(out, v...)
		}
	}
	return out
}

// systemd hears what it has to, in order, and nothing else: at the start, in an upgrade, in one that fails, and at the
// stop, when what it keeps is dropped. Under systemd there is no supervisor, even if the program always wants one.
func TestServiceManagerHearsEverythingInOrder(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	r := m.start(always, nil)
	one := r.mainPID()
	n := m.mustHear(0, then(kept(one), ready(one, 1, ""))...)
	if len(r.Family()) != 1 {
		t.Errorf("%v run: one process is enough", r.Family())
	}

	r.upgrade()
	two := r.mainPID()
	n = m.mustHear(n, then(reloading(one, 1), kept(two), ready(two, 2, ""))...)
	r.WaitFamily(t, 1, patience)

	r.change(func(s *settings) { s.Bad = "check" })
	r.mustFail("check", "the database is not there")
	n = m.mustHear(n, reloading(two, 2), ready(two, 2, `; the last upgrade failed: check: check "good": the database is not there`))

	if got, want := len(m.stored()), 2; got != want {
		t.Errorf("the store has %q", m.stored())
	}
	r.signalMain(syscall.SIGTERM)
	m.mustHear(n, datagram{two, "STOPPING=1\nSTATUS=stopping: SIGTERM"},
		datagram{two, "FDSTOREREMOVE=1\nFDNAME=" + tcpName}, datagram{two, "FDSTOREREMOVE=1\nFDNAME=" + unixName})
	r.WaitFamily(t, 0, patience)
	if m.count() != n+3 {
		t.Errorf("after the stop it heard %v", m.since(n+3))
	}
	if len(m.stored()) != 0 {
		t.Errorf("the store has %q after the stop", m.stored())
	}
}

// A candidate that dies after it has said that it is the service, and before the old process knows, leaves the old one as
// the service, which says so.
func TestServiceManagerHearsWhoHasTakenTheServiceBack(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	f := faultAt(t, "new.announced", "kill")
	r := m.start(nil, nil, f.env)
	one := r.mainPID()
	n := m.mustHear(0, then(kept(one), ready(one, 1, ""))...)
	a := r.ask("POST", "/upgrade")
	if a.Committed {
		t.Fatal("the upgrade was committed by a dead process")
	}
	two := r.faulted()
	m.mustHear(n, then(reloading(one, 1), kept(two), ready(two, 2, ""), ready(one, 1, "; the last upgrade failed: commit: it ended: signal: killed"))...)
}

// Sockets that the service had systemd keep come back to the process that is started after a crash, and nobody is refused
// in between. What that process does not use any more is dropped.
func TestStoreBringsSocketsBackAfterACrash(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	r := m.start(nil, nil)
	addr := r.addr
	l := r.load(smallLoad)
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > 100 })
	dead := r.mainPID()
	kills := []time.Time{time.Now()}
	r.signalMain(syscall.SIGKILL)
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
	m.mu.Lock()
	m.store["midair.listener.tcp.127.0.0.1%3A9"] = file // an older build had it
	m.mu.Unlock()
	r.Proc = m.launch(r, nil)
	testutil.Until(t, patience, "another process serves", func() bool { return r.servesWithout(dead) })
	b, err := os.ReadFile(filepath.Join(r.dir, "addr"))
	if err != nil || string(b) != addr {
		t.Errorf("it serves on %q, not %q: %v", b, addr, err)
	}
	answered := l.Total()
	testutil.Until(t, patience, "requests are answered", func() bool { return l.Total() > answered+100 })
	a := r.account(l)
	t.Log(a)
	if a.Counts[testutil.Refused] > 0 {
		t.Errorf("%d connections were refused", a.Counts[testutil.Refused])
	}
	r.mustHaveLostOnlyThen(a, kills, []int{dead})
	testutil.Until(t, patience, "what nobody uses is dropped", func() bool { return len(m.stored()) == 2 })
}

// A service that is started by its sockets listens on them by their names, and so do its upgrades. They stay with systemd:
// the service neither has them kept nor removes the path of one.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	sockets := m.sockets()
	ln, err := net.FileListener(sockets["web"])
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	r := m.start(func(s *settings) { s.Systemd = true }, sockets)
	if err := os.Symlink(m.dir+"/admin.sock", r.dir+"/admin.sock"); err != nil {
		t.Fatal(err)
	}
	if r.addr != addr {
		t.Fatalf("it serves on %s, not on the socket %s", r.addr, addr)
	}
	l := r.load(smallLoad)
	for range 3 {
		r.upgrade()
	}
	testutil.Until(t, patience, "generation 4 answers", func() bool { return l.Seen("g4") })
	r.account(l).MustBeClean(t)
	r.signalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
	if _, err := os.Stat(m.dir + "/admin.sock"); err != nil {
		t.Errorf("the path of a socket unit is gone: %v", err)
	}
	for _, d := range m.since(0) {
		if strings.Contains(d.text, "FDSTORE") {
			t.Errorf("heard %q", d.text)
		}
	}
}

// A socket that was passed is used for the address that it has, under whatever name.
func TestSocketActivationByAddress(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	sockets := m.sockets()
	ln, err := net.FileListener(sockets["web"])
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	r := m.start(func(s *settings) { s.Addr = addr }, sockets) // a new one would find the address in use
	r.upgrade()
	r.WaitFamily(t, 1, patience)
}

// The watchdog hears the main generation, and no other: not the candidate, and not the one that drains.
func TestWatchdogHearsTheMainGeneration(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	r := m.start(func(s *settings) { s.Soak = time.Minute }, nil, "WATCHDOG_USEC=150000")
	pings := func(pid int) (n int) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, d := range m.heard {
			if d.text == "WATCHDOG=1" && d.pid == pid {
				n++
			}
		}
		return n
	}
	more := func(pid int) {
		t.Helper()
		before := pings(pid)
		testutil.Until(t, patience, fmt.Sprintf("pings of %d", pid), func() bool { return pings(pid) >= before+5 })
	}
	one := r.mainPID()
	more(one)
	held := r.dial().begin()
	go func() { _, _ = r.tryAsk(t.Context(), "POST", "/upgrade") }()
	r.waitPhase("soak")
	more(one)
	two := r.ask("GET", "/status").Status.Candidate.PID
	if n := pings(two); n > 0 {
		t.Errorf("%d pings of a candidate", n)
	}
	r.ask("POST", "/commit")
	testutil.Until(t, patience, "the candidate serves", func() bool { return r.mainPID() == two })
	more(two)
	before := pings(one)
	more(two)
	if n := pings(one); n > before {
		t.Errorf("%d pings of the process that drains", n-before)
	}
	held.finish()
	if !slices.Contains(r.Family(), two) {
		t.Error("the main generation has gone")
	}
}
