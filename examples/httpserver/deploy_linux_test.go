package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// manifest reads a file of deploy and finds numbers in it.
type manifest struct {
	t    *testing.T
	text string
}

func readManifest(t *testing.T, name string) manifest {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return manifest{t, string(b)}
}

func (m manifest) number(expr string) int {
	m.t.Helper()
	found := regexp.MustCompile(expr).FindStringSubmatch(m.text)
	if found == nil {
		m.t.Fatalf("there is no %s", expr)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// entrypoint is the list in the Dockerfile.
func entrypoint(t *testing.T) (command []string) {
	t.Helper()
	_, list, _ := strings.Cut(readManifest(t, "Dockerfile").text, "\nENTRYPOINT ")
	if err := json.Unmarshal([]byte(list), &command); err != nil {
		t.Fatalf("ENTRYPOINT is not a list, so a shell would be process 1: %v", err)
	}
	return command
}

// What the manifests promise to each other: the time that a pod gets is more than what its parts may take, and they speak
// of paths and ports that the image has.
func TestManifestsAgree(t *testing.T) {
	k, unit := readManifest(t, "kubernetes.yaml"), readManifest(t, "httpserver.service")
	command := strings.Join(entrypoint(t), " ")
	grace := manifest{t, command}.number(`-grace (\d+)s`)
	preStop, total := k.number(`sleep: \{seconds: (\d+)\}`), k.number(`terminationGracePeriodSeconds: (\d+)`)
	if total <= preStop+grace {
		t.Errorf("a pod gets %d s, preStop %d s and -grace %d s need more", total, preStop, grace)
	}
	if surge, less := k.number(`maxSurge: (\d+)`), k.number(`maxUnavailable: (\d+)`); surge != 2 || less != 1 {
		t.Errorf("maxSurge %d, maxUnavailable %d", surge, less)
	}
	if stop, grace := unit.number(`TimeoutStopSec=(\d+)s`), unit.number(`-grace (\d+)s`); stop <= grace {
		t.Errorf("systemd waits %d s, -grace is %d s", stop, grace)
	}
	port := k.number(`containerPort: (\d+)`)
	if !strings.Contains(command, fmt.Sprintf("-addr 0.0.0.0:%d ", port)) || !strings.Contains(readManifest(t, "httpserver-web.socket").text, fmt.Sprint("ListenStream=", port)) {
		t.Errorf("not everything is about port %d", port)
	}
	for _, path := range []string{"/readyz", "/healthz"} {
		if !strings.Contains(k.text, "path: "+path+",") {
			t.Errorf("no probe of %s", path)
		}
	}
}

// pod is the container of the manifests, as process 1 of a PID namespace.
type pod struct {
	*testutil.Proc
	addr  string
	dir   string
	first int // process 1, from outside
}

// startPod starts the image's command with another port and directory.
func startPod(t *testing.T) *pod {
	t.Helper()
	unshare := testutil.Program(t, "unshare", "util-linux")
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may make a PID namespace")
	}
	p := &pod{dir: t.TempDir()}
	args := []string{"--pid", "--fork", "--mount-proc", "--kill-child", build(t, "v1")}
	for _, arg := range entrypoint(t)[1:] {
		arg = strings.ReplaceAll(arg, "/state/", "")
		args = append(args, strings.Replace(arg, "0.0.0.0:8080", "127.0.0.1:0", 1))
	}
	p.Proc = testutil.StartCommand(t, testutil.Cfg{Dir: p.dir}, unshare, append(args, "-addr-file=addr", "-soak=50ms")...)
	testutil.Until(t, patience, "there is a pid file", func() bool { _, err := readPID(filepath.Join(p.dir, "pid")); return err == nil || ended(p.Proc) })
	b, err := os.ReadFile(filepath.Join(p.dir, "addr"))
	if err != nil {
		t.Fatal(err)
	}
	p.addr = strings.TrimSpace(string(b))
	for _, pid := range p.Family() {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if regexp.MustCompile(`NSpid:\t\d+.*\t1\n`).Match(status) {
			p.first = pid
		}
	}
	return p
}

func (p *pod) get(path string) (int, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := c.Get("http://" + p.addr + path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// The kubelet's way to end a pod, with its times divided by ten: preStop, in the middle of which the last client has heard
// of it, then SIGTERM to process 1, then SIGKILL. Nothing is lost, even right after an upgrade in place, what was begun is
// answered, and the pod ends by itself, with status 0, before the SIGKILL.
func TestKubeletEndsAPodWithoutLoss(t *testing.T) {
	const faster = 10
	k := readManifest(t, "kubernetes.yaml")
	preStop := time.Duration(k.number(`sleep: \{seconds: (\d+)\}`)) * time.Second / faster
	total := time.Duration(k.number(`terminationGracePeriodSeconds: (\d+)`)) * time.Second / faster
	p := startPod(t)
	l := testutil.StartLoad(t, testutil.LoadOptions{Addr: p.addr, KeepAlive: 4, New: 2, Path: "/echo", SlowEvery: 20, SlowPath: "/slow?d=100ms"})
	signal := func(sig syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(p.first, sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGHUP) // the same build again, with its files read anew
	testutil.Until(t, patience, "the upgrade is committed", func() bool { return strings.Contains(p.Output(), "upgrade: committed") })

	begun := time.Now()
	until := func(d time.Duration) {
		testutil.Until(t, patience, d.String(), func() bool { return time.Since(begun) >= d })
	}
	until(preStop / 2) // kube-proxy has taken the pod out everywhere
	report := l.Stop()
	if status, err := p.get("/readyz"); err != nil || status != http.StatusOK {
		t.Errorf("ready before SIGTERM: %d, %v", status, err)
	}
	late := make(chan error, 1)
	go func() {
		status, err := p.get("/slow?d=1s")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		late <- err
	}()
	until(preStop)
	signal(syscall.SIGTERM)
	if err := <-late; err != nil {
		t.Errorf("what was begun before SIGTERM: %v", err)
	}
	code, err := p.Wait(total - time.Since(begun))
	took := time.Since(begun)
	if err != nil || code != 0 {
		t.Errorf("exit status %d, %v: the kubelet would have killed it", code, err)
	}
	p.WaitFamily(t, 0, patience)
	t.Logf("times divided by %d: preStop %v, ended after %v of %v; %v", faster, preStop, took.Round(time.Millisecond), total, report)
	if len(report.Failed) > 0 {
		t.Errorf("lost: %v", report.Failed[0])
	}
}

// systemd accepts the units as they are, but for the place of the program.
func TestUnitsAreAcceptedBySystemd(t *testing.T) {
	if testing.Short() {
		t.Skip("may install systemd")
	}
	analyze := testutil.Program(t, "systemd-analyze", "systemd")
	dir := t.TempDir()
	for _, name := range []string{"httpserver.service", "httpserver-web.socket", "httpserver-admin.socket"} {
		text := strings.NewReplacer("/opt/httpserver/httpserver", build(t, "v1"), "/opt/httpserver/ctl", build(t, "v1")).Replace(readManifest(t, name).text)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	units := []string{"verify", "--man=no", filepath.Join(dir, "httpserver.service"), filepath.Join(dir, "httpserver-web.socket"), filepath.Join(dir, "httpserver-admin.socket")}
	code, out := runCommand(t, testutil.Cfg{}, analyze, units...)
	ours := slices.DeleteFunc(strings.Split(out, "\n"), func(l string) bool { return !strings.Contains(l, "httpserver") })
	if code != 0 || len(ours) > 0 {
		t.Errorf("exit status %d: %s", code, out)
	}
}

// The real systemd-socket-activate starts the service at the first connection, with two sockets by name, and upgrades keep
// them.
func TestSystemdSocketActivate(t *testing.T) {
	if testing.Short() {
		t.Skip("may install systemd")
	}
	activate := testutil.Program(t, "systemd-socket-activate", "systemd")
	dir, err := os.MkdirTemp("", "site") // short: the path of a unix socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{t: t, dir: dir}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = free.Addr().String()
	free.Close()
	s.linkTo(build(t, "v1"))
	s.Proc = testutil.StartCommand(t, testutil.Cfg{Dir: dir}, activate,
		"-l", s.addr, "-l", s.file("admin"), "--fdname=web:admin",
		"-E", "MIDAIR_TEST_FAMILY", "-E", "MIDAIR_TEST_RUN", "-E", "GORACE", // else the test does not know its own
		s.file("current"), "-addr=systemd:web", "-admin=systemd:admin", "-pid-file=pid", "-soak=50ms")
	testutil.Until(t, patience, "it listens", func() bool {
		c, err := net.Dial("unix", s.file("admin")) // which starts the service
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	testutil.Until(t, patience, "there is a pid file", func() bool { return s.mainPID() != 0 })
	l := s.load()
	s.release()
	for range 2 {
		s.post("/upgrade?force=1", 200)
	}
	if r := s.ask("GET", "/version", ""); r.version() != "v2" || r.generation() != 3 {
		t.Errorf("generation %d of %s answers", r.generation(), r.version())
	}
	s.mustLoseNothing(l)
	s.signal(syscall.SIGTERM)
	s.mustEnd(0)
}
