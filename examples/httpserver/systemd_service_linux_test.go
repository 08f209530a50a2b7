package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// Where the units have things.
const (
	program = "/opt/httpserver/httpserver"
	tool    = "/opt/httpserver/ctl"
	unitDir = "/etc/systemd/system/"
	webAddr = "127.0.0.1:8080"
)

// deployed is the service in a machine, under the shipped units.
type deployed struct {
	*machine
	t    *testing.T
	main string // systemd's main process at the start

	admin string // the admin socket
}

// deploy starts version v1 under the shipped units, of which change edits the service, and stops it at the end of the test.
func (m *machine) deploy(t *testing.T, change func(unit string) string) *deployed {
	t.Helper()
	d := &deployed{machine: m, t: t, admin: "/run/httpserver-admin.sock"}
	for _, name := range []string{"httpserver.service", "httpserver-web.socket", "httpserver-admin.socket"} {
		text := readManifest(t, name).text
		if name == "httpserver.service" && change != nil {
			text = change(text)
		}
		m.put(t, unitDir+name, []byte(text))
	}
	d.release("v1", "")
	d.putFile(tool, build(t, "v1"))
	m.must(t, "systemctl", "daemon-reload")
	m.run(t, "systemctl", "reset-failed") // starts of the case before are not counted
	t.Cleanup(func() {
		m.run(t, "systemctl", "stop", "httpserver-web.socket", "httpserver-admin.socket", "httpserver.service")
		if t.Failed() {
			t.Log(m.run(t, "journalctl", "-u", "httpserver*", "-n", "60", "--no-pager", "-o", "short-precise"))
			m.run(t, "journalctl", "--rotate", "--vacuum-time=1s")
		}
	})
	m.must(t, "systemctl", "start", "httpserver.service")
	d.main = d.show("MainPID")
	return d
}

func (d *deployed) putFile(path, from string) {
	d.t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		d.t.Fatal(err)
	}
	d.put(d.t, path, b)
}

// release puts a version over the program, which is bad in that way.
func (d *deployed) release(version, fail string) {
	d.t.Helper()
	d.putFile(program, badBuild(d.t, version, fail))
}

// show returns a property of the service.
func (d *deployed) show(property string) string {
	d.t.Helper()
	return d.must(d.t, "systemctl", "show", "httpserver.service", "--value", "-p", property)
}

// status is what the service says of itself.
func (d *deployed) status() (upgrade.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var s siteView
	err := admin.NewClient("unix:"+d.root+d.admin).Status(ctx, &s)
	return s.Upgrade, err
}

// mainGeneration is the pid of the generation that serves.
func (d *deployed) mainGeneration() string {
	d.t.Helper()
	s, err := d.status()
	if err != nil {
		d.t.Fatal(err)
	}
	return strconv.Itoa(s.PID)
}

// untilSays waits for a text of systemctl status, and returns when it was seen: what a process says reaches systemd later than
// its end.
func (d *deployed) untilSays(status string) time.Time {
	d.t.Helper()
	testutil.Until(d.t, patience, status, func() bool { return strings.HasPrefix(d.show("StatusText"), status) })
	return time.Now()
}

// untilServes waits until that generation serves, and systemd says so.
func (d *deployed) untilServes(generation int, version string) time.Time {
	d.t.Helper()
	return d.untilSays(fmt.Sprintf("serving, generation %d, version %s", generation, version))
}

// mustServe waits as untilServes does, and wants systemd to have seen nothing else since the start.
func (d *deployed) mustServe(generation int, version string) {
	d.t.Helper()
	d.untilServes(generation, version)
	if state, pid, starts := d.show("ActiveState"), d.show("MainPID"), d.show("NRestarts"); state != "active" || pid != d.main || starts != "0" {
		d.t.Errorf("%s, main process %s, which was %s, started %s times more", state, pid, d.main, starts)
	}
}

// reload is systemctl reload: its exit status and time.
func (d *deployed) reload() (code int, took time.Duration) {
	d.t.Helper()
	return d.systemctl("reload")
}

func (d *deployed) systemctl(verb string) (code int, took time.Duration) {
	d.t.Helper()
	begun := time.Now()
	code, out := d.run(d.t, "systemctl", verb, "httpserver.service")
	if out != "" {
		d.t.Logf("systemctl %s: %s", verb, out)
	}
	return code, time.Since(begun)
}

// upgrade releases a good version and reloads.
func (d *deployed) upgrade(version string) time.Duration {
	d.t.Helper()
	d.release(version, "")
	code, took := d.reload()
	if code != 0 {
		d.t.Fatalf("reload: exit status %d after %v: %s", code, took, d.show("StatusText"))
	}
	return took
}

// beginUpgrade reloads without waiting, and returns in the middle of the upgrade.
func (d *deployed) beginUpgrade(version string) {
	d.t.Helper()
	d.release(version, "")
	d.must(d.t, "systemctl", "reload", "--no-block", "httpserver.service")
	testutil.Until(d.t, patience, "an upgrade is under way", func() bool { s, err := d.status(); return err == nil && s.Candidate != nil && s.Candidate.PID != 0 })
}

// load keeps clients asking.
func (d *deployed) load() *testutil.Load {
	d.t.Helper()
	l := testutil.StartLoad(d.t, testutil.LoadOptions{
		Addr: webAddr, Dial: d.dial, KeepAlive: 4, New: 2, Path: "/echo", Body: 100,
		SlowEvery: 50, SlowPath: "/slow?d=30ms", Think: 10 * time.Millisecond, Timeout: 30 * time.Second,
	})
	testutil.Until(d.t, patience, "the load is on", func() bool { return l.Total() > 50 })
	return l
}

// figures stops a load, logs what has become of it, and wants nobody to be refused, and at most so many requests to be cut.
func (d *deployed) figures(l *testutil.Load, mostCut int) {
	d.t.Helper()
	r := l.Stop()
	gap, _ := r.LongestGap(time.Time{}, time.Time{})
	refused := r.Counts[testutil.DialRefused] + r.Counts[testutil.DialFailed]
	d.t.Logf("FIGURES %d requests, %d lost, %d of them refused, slowest %v, longest time without an answer %v",
		r.Total, len(r.Failed), refused, r.Percentile(100, time.Time{}, time.Time{}).Round(time.Millisecond), gap.Round(time.Millisecond))
	if refused > 0 || len(r.Failed) > mostCut || r.Counts[testutil.TimedOut] > 0 {
		d.t.Errorf("%v\nthe first: %v", r, r.Failed[0])
	}
}

// answer is how one request has ended.
type answer struct {
	err  error
	took time.Duration
}

// open sends a request that takes that long, and returns when the service has it. The answer comes on the channel.
func (d *deployed) open(takes time.Duration) <-chan answer {
	d.t.Helper()
	done, begun := make(chan answer, 1), make(chan struct{})
	c := &http.Client{Transport: &http.Transport{DialContext: d.dial, DisableKeepAlives: true}, Timeout: time.Minute}
	go func() { // ends with the request
		start := time.Now()
		done <- answer{askSlowly(c, takes, begun), time.Since(start)}
	}()
	select {
	case <-begun:
	case a := <-done:
		d.t.Fatalf("a request of %v: %v", takes, a.err)
	}
	return done
}

// askSlowly asks for two lines, the second one later by that time, and says when the first one is there.
func askSlowly(c *http.Client, later time.Duration, begun chan<- struct{}) error {
	resp, err := c.Get(fmt.Sprintf("http://%s/stream?n=2&every=%v", webAddr, later))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		return err
	}
	close(begun)
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "2\n" {
		return fmt.Errorf("the answer ends with %q: %w", rest, err)
	}
	return nil
}

// mustBeAnswered waits for the answer to what open has sent.
func (d *deployed) mustBeAnswered(what string, request <-chan answer) {
	d.t.Helper()
	a := <-request
	d.t.Logf("FIGURES the request of %s: %v after %v", what, a.err, a.took.Round(time.Millisecond))
	if a.err != nil {
		d.t.Errorf("the request of %s is lost: %v", what, a.err)
	}
}
