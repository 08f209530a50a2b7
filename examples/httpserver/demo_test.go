package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// The demo tells its story in 80 columns without colours, loses nothing, and leaves nothing behind.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds seven programs")
	}
	dir := t.TempDir()
	p := testutil.StartCommand(t, testutil.Cfg{Env: []string{"TMPDIR=" + dir}}, build(t, "v1"), "demo")
	code, err := p.Wait(3 * time.Minute)
	out := p.Output()
	if err != nil || code != 0 {
		t.Fatalf("exit code %d, %v\n%s", code, err, out)
	}
	for _, want := range []string{
		`v1 -> v2  committed`, `v2 -> v3  taken back .*phase check`, `fails its own check`, `v2 -> v4  taken back .*phase (check|bake)`,
		`v2 -> v5  taken back .*phase bake`, `v2 -> v6  taken back .*phase bake`, `worse than stable`, `v2 -> v1  committed`, `all 8 processes have ended`,
		`(?m)^total .* 0 +\d+ ms$`, `none was lost`,
		`(?m)^v2 -> v6 +\d+%: canary \d+ bad of [\d,]+, stable 0 of [\d,]+, evidence [\d.,]+`,
		`\n          [\d,]+ requests: [\d,]+ answered by the new cart, [\d,]+ by the old one`, `the process has crashed [1-9]`,
		`50% of the visitors get the new cart`, `100% of the visitors get the new cart`, `visitor was counted right and stayed on its side`,
		`(?m)^4 +stable +(stable +stable|canary +canary) +canary +[\d,]+ +[\d,]+$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %q", want)
		}
	}
	for line := range strings.Lines(out) {
		if len(line) > 81 || strings.Contains(line, "\x1b") {
			t.Errorf("too long, or with colours: %q", line)
		}
	}
	nothingLeft(t, p, dir)
	t.Log(out)
}

func nothingLeft(t *testing.T, p *testutil.Proc, dir string) {
	t.Helper()
	p.WaitFamily(t, 0, patience)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// Ctrl-C ends everything that the demo has started, whatever it is about to do.
func TestDemoInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("builds seven programs")
	}
	for _, moment := range []string{"\nbuild ", "\nload ", "\nv1 -> v2 "} {
		dir := t.TempDir()
		p := testutil.StartCommand(t, testutil.Cfg{Env: []string{"TMPDIR=" + dir}}, build(t, "v1"), "demo")
		testutil.Until(t, 3*time.Minute, "the demo says"+moment, func() bool { return strings.Contains(p.Output(), moment) || ended(p) })
		p.Signal(syscall.SIGINT)
		if code, err := p.Wait(time.Minute); err != nil || code != 1 {
			t.Errorf("after %q: exit code %d, %v", moment, code, err)
		}
		p.WaitOutput(patience, "interrupted")
		nothingLeft(t, p, dir)
	}
}

// Without the go command the demo says what it needs.
func TestDemoWithoutGo(t *testing.T) {
	code, out := runCommand(t, testutil.Cfg{Env: []string{"PATH=/nowhere"}}, build(t, "v1"), "demo")
	if code != 1 || !strings.Contains(out, "needs the go command") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// The table adds up.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	total := table(screen{w: &b}, []*phase{
		{name: "v1 serves", took: 1500 * time.Millisecond, sent: 1234, answered: map[string]int{"v1": 1234}, slowest: time.Millisecond},
		{name: "v1 -> v2: committed", took: 20 * time.Millisecond, sent: 100_010, answered: map[string]int{"v1": 4, "v2": 100_000, "v3": 2}, lost: 4, slowest: 3 * time.Millisecond},
	})
	want := "" +
		"\nphase                      time  requests    by v1    by v2   bad  lost slowest\n" +
		"v1 serves                 1.5 s     1,234    1,234        0     0     0    1 ms\n" +
		"v1 -> v2: committed       20 ms   100,010        4  100,000     2     4    3 ms\n" +
		"-------------------------------------------------------------------------------\n" +
		"total                     1.5 s   101,244    1,238  100,000     2     4    3 ms\n"
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if total.sent != 101_244 || total.lost != 4 || total.answered["v3"] != 2 {
		t.Errorf("%+v", total)
	}
}

// Long texts are broken between words.
func TestFold(t *testing.T) {
	got := strings.Join(fold("one two three  four\nunbreakable five", 9), "|")
	if want := "one two|three|four|unbreakable|five"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Colours are for terminals.
func TestPaint(t *testing.T) {
	if got := (screen{colour: true}).paint(red, "x"); got != "\x1b[1;31mx\x1b[0m" {
		t.Errorf("%q", got)
	}
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newScreen(f).colour {
		t.Error("a file is taken for a terminal")
	}
}
