package session_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

var kills = flag.Int("midair.kills", 30, "how many writers TestKilledWritersLoseNothing kills; 10 with -short")

// A forgetful store does not give its secret at first.
type forgetful struct {
	*session.DirStore
	failures, asked int
}

func (f *forgetful) Secret(ctx context.Context) ([]byte, error) {
	if f.asked++; f.asked <= f.failures {
		return nil, errors.New("not now")
	}
	return f.DirStore.Secret(ctx)
}

// roleVisitor is a visitor with the cookie in COOKIE of a site on the directory in DIR.
func roleVisitor() *visitor {
	v := newVisitor(nil, newSite(session.Dir(os.Getenv("DIR")), session.Options{}))
	v.cookie = os.Getenv("COOKIE")
	return v
}

// counterRole sends REQUESTS requests to /count.
func counterRole() int {
	n, err := strconv.Atoi(os.Getenv("REQUESTS"))
	if err != nil {
		return 2
	}
	v := roleVisitor()
	for range n {
		if v.do("/count").StatusCode != http.StatusOK {
			return 1
		}
	}
	return 0
}

// writerRole counts until it is killed, and says each value that was acknowledged.
func writerRole() int {
	v := roleVisitor()
	for {
		text, err := io.ReadAll(v.do("/count").Body)
		if _, bad := strconv.Atoi(string(text)); err != nil || bad != nil {
			return 1
		}
		fmt.Printf("acknowledged %s\n", text)
	}
}

// holderRole takes the lock in FILE, says so, and keeps it until it is killed.
func holderRole() int {
	f, err := os.OpenFile(os.Getenv("FILE"), os.O_RDWR, 0)
	if err != nil {
		return 1
	}
	if held, err := session.TryLock(f); !held || err != nil {
		return 1
	}
	fmt.Println("holding")
	select {}
}

// hold lets another process hold the lock of a directory until release kills it.
func hold(t *testing.T, dir string) (release func()) {
	t.Helper()
	p := testutil.Start(t, "holder", testutil.Cfg{Env: []string{"FILE=" + filepath.Join(dir, "lock")}})
	p.WaitOutput(10*time.Second, "holding")
	return p.Kill
}

// "every visitor's /count equals the number of its requests": two processes at once, on one session and one directory.
func TestTwoProcessesLoseNoUpdate(t *testing.T) {
	dir := t.TempDir()
	v := newVisitor(t, newSite(session.Dir(dir), session.Options{}))
	v.get("/cohort") // the session itself is made by one of the two
	const requests = 300
	env := []string{"DIR=" + dir, "COOKIE=" + v.value(), "REQUESTS=" + strconv.Itoa(requests)}
	a := testutil.Start(t, "counter", testutil.Cfg{Env: env})
	b := testutil.Start(t, "counter", testutil.Cfg{Env: env})
	for _, p := range []*testutil.Proc{a, b} {
		if code, err := p.Wait(time.Minute); code != 0 || err != nil {
			t.Fatalf("exit %d, %v: %s", code, err, p.Output())
		}
	}
	v.want("/count", strconv.Itoa(2*requests+1))
}

// A writer that is killed at any moment, with the lock or without, loses no update that it had acknowledged, leaves no
// file that cannot be read, and is in nobody's way.
func TestKilledWritersLoseNothing(t *testing.T) {
	rounds := *kills
	if testing.Short() {
		rounds = min(rounds, 10)
	}
	dir := t.TempDir()
	v := newVisitor(t, newSite(session.Dir(dir), session.Options{}))
	v.want("/count", "1")
	env := []string{"DIR=" + dir, "COOKIE=" + v.value()}
	last := 1
	for round := range rounds {
		p := testutil.Start(t, "writer", testutil.Cfg{Env: env})
		p.WaitOutput(20*time.Second, "acknowledged")
		for range round % 30 * 7 { // another moment each time
			v.get("/get?k=none")
		}
		p.Kill()
		acknowledged := lastNumber(t, p.Output())
		wantReadable(t, dir)
		got, err := strconv.Atoi(v.get("/count"))
		if err != nil || got <= acknowledged || got > acknowledged+2 { // one may be stored and not said
			t.Fatalf("round %d: %d after %d was acknowledged, %v", round, got, acknowledged, err)
		}
		if acknowledged <= last {
			t.Fatalf("round %d: it began at %d, after %d", round, acknowledged, last)
		}
		last = got
	}
	t.Logf("%d updates by %d killed writers", last, rounds)
}

// lastNumber is the last value in the output that is complete.
func lastNumber(t *testing.T, output string) int {
	t.Helper()
	n := 0
	lines := bufio.NewScanner(strings.NewReader(output[:strings.LastIndexByte(output, '\n')+1]))
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "acknowledged "); ok {
			n, _ = strconv.Atoi(text)
		}
	}
	return n
}

// wantReadable checks that each record in dir is complete.
func wantReadable(t *testing.T, dir string) {
	t.Helper()
	for _, file := range records(t, dir) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data, ok := session.DecodeRecord(b)
		if !ok {
			t.Fatalf("%s is damaged: %q", file, b)
		}
		if _, err := session.Recode(data); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
}

// The lock of a writer that was killed while it held it is free at once.
func TestTheLockOfAKilledWriterIsFree(t *testing.T) {
	dir := t.TempDir()
	v := newVisitor(t, newSite(session.Dir(dir), session.Options{}))
	v.want("/count", "1")
	release := hold(t, filepath.Dir(records(t, dir)[0]))
	wait := v.with(v.h).background("/count")
	release()
	if res := wait(); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	v.want("/count", "3")
}
