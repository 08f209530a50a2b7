package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// unit edits the shipped service.
type unit struct{ text string }

// set replaces a line of the unit; one without a value is left out.
func (u *unit) set(key, value string) {
	line := ""
	if value != "" {
		line = key + "=" + value + "\n"
	}
	u.text = regexp.MustCompile(`(?m)^`+key+`=.*\n`).ReplaceAllLiteralString(u.text, line)
}

func edit(change func(*unit)) func(string) string {
	return func(text string) string {
		u := unit{text}
		change(&u)
		return u.text
	}
}

// unitVariants are units that others write: none loses a request by an upgrade, and each answers to a reload as the comment
// of the shipped one says.
func unitVariants(t *testing.T, m *machine) {
	const kill = "/bin/kill -HUP $MAINPID"
	untold := func(kind string) func(string) string {
		return edit(func(u *unit) {
			u.set("Type", kind)
			u.set("ExecReload", kill)
			for _, key := range []string{"NotifyAccess", "WatchdogSec", "FileDescriptorStoreMax"} {
				u.set(key, "")
			}
		})
	}
	for _, v := range []struct {
		name   string
		change func(string) string
		waits  bool // for the upgrade, always
		fails  bool // if the upgrade does
		silent bool // systemd is told nothing
		newer  int  // needs this systemd
	}{
		{"WithoutNotifyAccess", edit(func(u *unit) { u.set("NotifyAccess", "") }), true, true, false, 0},
		{"NotifyAndKill", edit(func(u *unit) { u.set("ExecReload", kill) }), false, false, false, 0},
		{"NotifyReload", edit(func(u *unit) { u.set("Type", "notify-reload"); u.set("ExecReload", "") }), true, false, false, 253},
		{"PrivatePIDs", edit(func(u *unit) {
			u.set("Type", "notify-reload")
			u.set("ExecReload", "")
			u.set("Restart", "always\nPrivatePIDs=yes")
		}), true, false, false, 257},
		{"Simple", untold("simple"), false, false, true, 0},
		{"Exec", untold("exec"), false, false, true, 0},
	} {
		t.Run("Unit"+v.name, func(t *testing.T) {
			if _, version := m.run(t, "systemctl", "--version"); (manifest{t, version}).number(`systemd (\d+)`) < v.newer {
				t.Skipf("NOT RUN: this systemd is older than %d", v.newer)
			}
			d := m.deploy(t, v.change)
			l := d.load()
			for i, version := range []string{"v2", "v3"} {
				d.release(version, "")
				d.reloads(v.waits, 2+i, version)
			}
			if !v.silent {
				d.mustServe(3, "v3")
			}
			d.release("v4", "check")
			code, took := d.reload()
			t.Logf("FIGURES a failed upgrade: exit status %d after %v", code, took.Round(time.Millisecond))
			if (code != 0) != v.fails {
				t.Errorf("a failed upgrade: exit status %d", code)
			}
			testutil.Until(t, patience, "the upgrade has failed", func() bool {
				s, err := d.status()
				return err == nil && s.Last != nil && s.Last.Phase == "check" && s.Generation == 3
			})
			d.figures(l, 0)
			d.stops()
		})
	}
}

// reloads is one upgrade, and whether the reload has waited for it, if it has to.
func (d *deployed) reloads(waits bool, generation int, version string) {
	d.t.Helper()
	code, took := d.reload()
	serves := func() bool {
		s, err := d.status()
		return err == nil && s.Generation == generation && s.Version == version && s.State == "serving"
	}
	d.t.Logf("FIGURES reload: exit status %d after %v", code, took.Round(time.Millisecond))
	if code != 0 || waits && !serves() {
		d.t.Errorf("reload: exit status %d after %v, before the upgrade was over", code, took)
	}
	testutil.Until(d.t, patience, "it is upgraded", serves)
}

// stops ends the service with a request, which is answered.
func (d *deployed) stops() {
	d.t.Helper()
	request := d.open(2 * time.Second)
	code, took := d.systemctl("stop")
	d.mustBeAnswered("2s", request)
	if code != 0 || took < time.Second || d.show("Result") != "success" || strings.Contains(d.must(d.t, "journalctl", "-u", "httpserver", "-n", "5", "--no-pager"), "SIGKILL") {
		d.t.Errorf("stop: exit status %d after %v, %s", code, took, d.show("Result"))
	}
}

// Without socket units systemd keeps what the service listens on: for a restart, and for the time after the end of a
// supervisor that was killed, and no longer than for that.
func storeKeepsSockets(t *testing.T, m *machine) {
	const own = "/run/httpserver/admin.sock"
	d := m.deploy(t, edit(func(u *unit) {
		u.set("Requires", "")
		u.text = strings.Replace(u.text, "-addr systemd:web -admin systemd:admin", "-addr "+webAddr+" -admin unix:"+own, 1)
	}))
	d.admin = own
	d.upgrade("v2")
	d.mustServe(2, "v2")
	l := d.load()
	code, took := d.systemctl("restart")
	d.t.Logf("FIGURES restart: exit status %d after %v, %s sockets in the store", code, took.Round(time.Millisecond), d.show("NFileDescriptorStore"))
	d.untilServes(1, "v2")
	d.upgrade("v3")
	d.untilServes(2, "v3")
	at := d.kill(t, d.show("MainPID"))
	testutil.Until(t, patience, "systemd has started it again", func() bool { return d.show("NRestarts") == "1" })
	d.t.Logf("FIGURES supervisor killed: the next one after %v", d.untilServes(1, "v3").Sub(at).Round(time.Millisecond))
	d.figures(l, 0)
	d.stops()
	if n := d.show("NFileDescriptorStore"); n != "0" {
		t.Errorf("after a stop systemd has %s sockets", n)
	}
}

// A generation that hangs is replaced before systemd's watchdog ends all of them.
func hungGenerationIsReplaced(t *testing.T, m *machine) {
	d := m.deploy(t, edit(func(u *unit) { u.set("WatchdogSec", "4s") }))
	l := d.load()
	pid := d.mainGeneration()
	at := time.Now()
	d.must(t, "kill", "-STOP", pid)
	d.t.Logf("FIGURES stopped: the next one after %v", d.untilServes(2, "v1").Sub(at).Round(time.Millisecond))
	d.mustServe(2, "v1")
	d.figures(l, clients)
}
