package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var realSystemd = flag.Bool("midair.systemd", false, "run TestRealSystemd: five minutes, as root, with 300 MB of Debian, which it fetches once")

// Under a systemd that was not made for this test, the shipped units keep what their comments promise.
func TestRealSystemd(t *testing.T) {
	if !*realSystemd {
		fmt.Fprintln(os.Stderr, t.Name(), "NOT RUN: it boots a systemd, as root; -midair.systemd runs it")
		t.Skip("NOT RUN: -midair.systemd runs it")
	}
	if os.Geteuid() != 0 {
		t.Fatal("NOT RUN: only root may boot a systemd")
	}
	m := bootMachine(t)
	for _, c := range []struct {
		name string
		run  func(*deployed)
	}{
		{"ReloadsLoseNothing", reloadsLoseNothing},
		{"StopWaitsForRequests", stopWaitsForRequests},
		{"StopTakesAnUpgradeBack", stopTakesAnUpgradeBack},
		{"RestartRefusesNobody", restartRefusesNobody},
		{"KilledGenerationsAreReplaced", killedGenerationsAreReplaced},
		{"KilledSupervisorIsReplaced", killedSupervisorIsReplaced},
		{"CrashLoopGoesBack", crashLoopGoesBack},
		{"FailedUpgradeIsAFailedReload", failedUpgradeIsAFailedReload},
		{"ManagerMayBeReloaded", managerMayBeReloaded},
		{"CrashBesideADrainIsNoticed", crashBesideADrainIsNoticed},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(m.deploy(t, nil)) })
	}
	unitVariants(t, m)
	t.Run("StoreKeepsSockets", func(t *testing.T) { storeKeepsSockets(t, m) })
	t.Run("HungGenerationIsReplaced", func(t *testing.T) { hungGenerationIsReplaced(t, m) })
}

// Twenty deploys: every reload is an upgrade, and no request is lost.
func reloadsLoseNothing(d *deployed) {
	const reloads = 20
	l := d.load()
	var took []time.Duration
	for i := range reloads {
		version := fmt.Sprint("v", 2+i%2)
		took = append(took, d.upgrade(version).Round(time.Millisecond))
		d.mustServe(2+i, version)
	}
	slices.Sort(took)
	d.figures(l, 0)
	d.t.Logf("FIGURES %d reloads of %v to %v", reloads, took[0], took[reloads-1])
}

// threeUpgrades makes the service one that was upgraded.
func (d *deployed) threeUpgrades() {
	d.t.Helper()
	for i, version := range []string{"v2", "v3", "v2"} {
		d.upgrade(version)
		d.mustServe(2+i, version)
	}
}

// A stop of an upgraded service takes as long as the last request, which is answered.
func stopWaitsForRequests(d *deployed) {
	const takes = 3 * time.Second
	d.threeUpgrades()
	request := d.open(takes)
	code, took := d.systemctl("stop")
	d.t.Logf("FIGURES stop: exit status %d after %v, %s, %s", code, took.Round(time.Millisecond), d.show("ActiveState"), d.show("Result"))
	d.mustBeAnswered("3s", request)
	if code != 0 || took < takes/2 || took > takes+2*time.Second || d.show("ActiveState") != "inactive" || d.show("Result") != "success" {
		d.t.Errorf("stop: exit status %d after %v, %s, %s", code, took, d.show("ActiveState"), d.show("Result"))
	}
}

// A stop in the middle of an upgrade is as good as any other.
func stopTakesAnUpgradeBack(d *deployed) {
	d.beginUpgrade("v2")
	request := d.open(2 * time.Second)
	code, took := d.systemctl("stop")
	d.t.Logf("FIGURES stop: exit status %d after %v, %s, %s", code, took.Round(time.Millisecond), d.show("ActiveState"), d.show("Result"))
	d.mustBeAnswered("2s", request)
	if code != 0 || took < time.Second || d.show("ActiveState") != "inactive" || d.show("Result") != "success" {
		d.t.Errorf("stop: exit status %d after %v, %s, %s", code, took, d.show("ActiveState"), d.show("Result"))
	}
}

// A restart answers what was begun; who comes meanwhile waits.
func restartRefusesNobody(d *deployed) {
	const takes = 2 * time.Second
	d.threeUpgrades()
	l := d.load()
	request := d.open(takes)
	code, took := d.systemctl("restart")
	d.t.Logf("FIGURES restart: exit status %d after %v, %s", code, took.Round(time.Millisecond), d.show("Result"))
	d.mustBeAnswered("2s", request)
	d.untilServes(1, "v2")
	if code != 0 || d.show("Result") != "success" || d.show("MainPID") == d.main {
		d.t.Errorf("restart: exit status %d, %s", code, d.show("Result"))
	}
	d.figures(l, 0)
}

// clients is how many requests of a load can be under way, and so be cut with the process that has them.
const clients = 6

// The supervisor replaces each generation that is killed, and systemd sees nothing of it.
func killedGenerationsAreReplaced(d *deployed) {
	l := d.load()
	generation := 1
	for _, version := range []string{"v1", "v2", "v3"} {
		if generation > 1 {
			d.upgrade(version)
		}
		at := d.kill(d.t, d.mainGeneration())
		generation++
		d.t.Logf("FIGURES %s killed: the next one after %v", version, d.untilServes(generation, version).Sub(at).Round(time.Millisecond))
		d.mustServe(generation, version)
		generation++
	}
	d.figures(l, 3*clients)
}

// systemd starts a supervisor that is killed again, with the sockets, when the generations have drained that it leaves.
func killedSupervisorIsReplaced(d *deployed) {
	for _, takes := range []time.Duration{0, 3 * time.Second} {
		d.upgrade("v2")
		l := d.load()
		request := make(<-chan answer)
		if takes > 0 {
			request = d.open(takes)
		}
		supervisor := d.show("MainPID")
		at := d.kill(d.t, supervisor)
		testutil.Until(d.t, patience, "systemd sees it", func() bool { return !slices.Contains([]string{supervisor, "0"}, d.show("MainPID")) })
		d.t.Logf("FIGURES supervisor killed, with a request of %v: the next one after %v, %s starts by systemd",
			takes, d.untilServes(1, "v2").Sub(at).Round(time.Millisecond), d.show("NRestarts"))
		if takes > 0 {
			d.mustBeAnswered("3s", request)
		}
		d.figures(l, 0)
	}
}

// A release that crashes again and again is replaced by the build before it, and the unit stays active.
func crashLoopGoesBack(d *deployed) {
	l := d.load()
	d.release("v2", "after-commit=1200ms")
	begun := time.Now()
	code, took := d.reload()
	back := d.untilServes(4, "v1") // 3 is the crashed build again
	d.t.Logf("FIGURES reload: exit status %d after %v; back after %v", code, took.Round(time.Millisecond), back.Sub(begun).Round(time.Millisecond))
	d.mustServe(4, "v1")
	if code != 0 { // the upgrade was committed before the first crash
		d.t.Errorf("reload: exit status %d", code)
	}
	d.upgrade("v3")
	d.mustServe(5, "v3")
	d.figures(l, 2*clients)
	for _, socket := range []string{"httpserver-web.socket", "httpserver-admin.socket"} {
		d.must(d.t, "systemctl", "is-active", socket)
	}
}

// An upgrade that fails is a reload that fails, with the reason in the status, and the service goes on.
func failedUpgradeIsAFailedReload(d *deployed) {
	l := d.load()
	for _, r := range []struct {
		put  func()
		says string
	}{
		{func() { d.release("v2", "check") }, `check: check "self-test": this release is bad`},
		{func() { d.release("v2", "start") }, "start: it ended before upgrade.New: exit status 7"},
		{func() { d.release("v2", "after-ready") }, "soak: it ended: exit status 7"},
		{func() { d.put(d.t, program, []byte("this is no program\n")) }, "start: executable /opt/httpserver/httpserver: does not carry"},
		{func() { d.must(d.t, "rm", program) }, "start: executable: stat /opt/httpserver/httpserver: no such file"},
	} {
		r.put()
		code, took := d.reload()
		d.untilSays("serving, generation 1, version v1; the last upgrade failed: " + r.says)
		d.t.Logf("FIGURES exit status %d after %v, %s: %s", code, took.Round(time.Millisecond), d.show("ReloadResult"), d.show("StatusText"))
		if code == 0 || d.show("ReloadResult") != "exit-code" {
			d.t.Errorf("%s: exit status %d, %s", r.says, code, d.show("ReloadResult"))
		}
	}
	d.upgrade("v2")
	d.mustServe(2, "v2")
	d.figures(l, 0)
}

// systemd may read its units again, or execute itself again, between upgrades and in the middle of them.
func managerMayBeReloaded(d *deployed) {
	l := d.load()
	generation := 1
	for _, verb := range []string{"daemon-reload", "daemon-reexec"} {
		d.must(d.t, "systemctl", verb)
		d.upgrade("v2")
		d.mustServe(generation+1, "v2")

		d.beginUpgrade("v3")
		d.must(d.t, "systemctl", verb)
		d.mustServe(generation+2, "v3")
		generation += 2
	}
	d.figures(l, 0)
	request := d.open(2 * time.Second)
	if code, took := d.systemctl("stop"); code != 0 || took < time.Second || d.show("Result") != "success" {
		d.t.Errorf("stop: exit status %d after %v, %s", code, took, d.show("Result"))
	}
	d.mustBeAnswered("2s", request)
}

// The main generation crashes while an older one has a long request: both the service and the request go on.
func crashBesideADrainIsNoticed(d *deployed) {
	request := d.open(6 * time.Second)
	d.upgrade("v2")
	l := d.load()
	at := d.kill(d.t, d.mainGeneration())
	d.t.Logf("FIGURES killed: the next one after %v", d.untilServes(3, "v2").Sub(at).Round(time.Millisecond))
	select {
	case a := <-request:
		d.t.Errorf("generation 1 has not drained beside the crash: %v", a)
	default:
	}
	d.mustServe(3, "v2")
	d.mustBeAnswered("6s", request)
	d.figures(l, clients)
}
