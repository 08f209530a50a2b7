//go:build linux

package scale

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudflare/tableflip"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// The environment of the services of this file.
const (
	listenersEnv = "MIDAIR_SCALE_LISTENERS" // how many listeners the service opens
	stateEnv     = "MIDAIR_SCALE_STATE"     // how many bytes of kept state the service has
	superviseEnv = "MIDAIR_SCALE_SUPERVISE" // if set, the service runs under the supervisor
)

// grownMain is a service with many listeners or a large kept state.
func grownMain() error {
	o := upgrade.Options{PIDFile: filepath.Join(os.Getenv(dirEnv), "pid"), Soak: -1, StateLimit: 1 << 30}
	if os.Getenv(superviseEnv) != "" {
		if code, ok := upgrade.Supervise(o); ok {
			os.Exit(code)
		}
	}
	up, err := upgrade.New(o)
	if err != nil {
		return err
	}
	defer up.Close()
	if n, _ := strconv.Atoi(os.Getenv(stateEnv)); n > 0 {
		v := new(blob)
		if up.Keep("blob", v); len(v.b) == 0 { // no process before this one has sent it
			v.b = bytes.Repeat([]byte("s"), n)
		}
	}
	lns, err := listenMany(up.Listen)
	if err != nil {
		return err
	}
	srv := drain.NewServer(&http.Server{Handler: answers()}, drain.Options{Move: up.Move, Rebalance: up.Rebalance(), Hurry: up.Hurry()})
	return up.Run(context.Background(), func(ctx context.Context) error {
		var all sync.WaitGroup
		for _, ln := range lns {
			all.Go(func() { _ = srv.Serve(ctx, ln) })
		}
		all.Wait()
		return nil
	})
}

// blob is a kept value.
type blob struct {
	mu sync.Mutex
	b  []byte
}

func (v *blob) MarshalBinary() ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.b, nil
}

func (v *blob) UnmarshalBinary(b []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.b = bytes.Clone(b)
	return nil
}

// listenMany opens the listeners of a service, and writes the address of the first one to a file.
func listenMany(listen func(network, addr string) (net.Listener, error)) (lns []net.Listener, err error) {
	n, _ := strconv.Atoi(os.Getenv(listenersEnv))
	for i := range max(n, 1) {
		// The address is another one for each listener: tableflip finds an inherited listener by its address alone.
		ln, err := listen("tcp", fmt.Sprintf("127.%d.%d.1:0", 1+i/250, 1+i%250))
		if err != nil {
			return nil, err
		}
		lns = append(lns, ln)
	}
	return lns, os.WriteFile(filepath.Join(os.Getenv(dirEnv), "addr"), []byte(lns[0].Addr().String()), 0o600)
}

// flipMain is the same service on bare tableflip.
func flipMain() error {
	upg, err := tableflip.New(tableflip.Options{PIDFile: filepath.Join(os.Getenv(dirEnv), "pid")})
	if err != nil {
		return err
	}
	defer upg.Stop()
	go func() { // ends with the process
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		for range hup {
			if err := upg.Upgrade(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	lns, err := listenMany(upg.Listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: answers()}
	for _, ln := range lns {
		go func() { _ = srv.Serve(ln) }() // ends at the Shutdown
	}
	if err := upg.Ready(); err != nil {
		return err
	}
	<-upg.Exit()
	return srv.Shutdown(context.Background())
}

// grown is a running service of grownMain or flipMain.
type grown struct {
	t    *testing.T
	dir  string
	addr string
}

func startGrown(t *testing.T, role string, env ...string) *grown {
	t.Helper()
	g := &grown{t: t, dir: t.TempDir()}
	testutil.Start(t, role, testutil.Cfg{Env: append(env, dirEnv+"="+g.dir)})
	testutil.Until(t, patience, "the service answers", func() bool {
		b, err := os.ReadFile(filepath.Join(g.dir, "addr"))
		g.addr = string(b)
		return err == nil && g.answeredBy() != 0 && g.main() != 0
	})
	return g
}

// main returns the pid in the pid file; 0 if there is none.
func (g *grown) main() int {
	b, _ := os.ReadFile(filepath.Join(g.dir, "pid"))
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// answeredBy sends a request over a new connection, and returns the pid in the answer; 0 if there is no answer.
func (g *grown) answeredBy() int {
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://" + g.addr)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	pid, _ := strconv.Atoi(resp.Header.Get("X-Pid"))
	return pid
}

// upgrade upgrades the service, and returns the time from the signal to the first answer of the new process, and its pid.
func (g *grown) upgrade() (first time.Duration, next int) {
	g.t.Helper()
	before, main := g.answeredBy(), g.main()
	began := time.Now()
	if err := syscall.Kill(main, syscall.SIGHUP); err != nil {
		g.t.Fatal(err)
	}
	for time.Since(began) < 2*patience {
		if next = g.answeredBy(); next != 0 && next != before {
			return time.Since(began), next
		}
	}
	g.t.Fatal("no new process answers")
	return 0, 0
}

// timed starts a service, upgrades it once, and returns the time to the first answer and the peak memory of the new process.
func timed(t *testing.T, role string, env ...string) (first time.Duration, peakKiB int) {
	t.Helper()
	t.Run(role, func(t *testing.T) {
		g := startGrown(t, role, env...)
		var pid int
		first, pid = g.upgrade()
		time.Sleep(100 * time.Millisecond) // the peak may come after the first answer
		peakKiB = peakOf(pid)
	})
	return first, peakKiB
}

func peakOf(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	line, _, _ := strings.Cut(after, "kB")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

func middle[T int | time.Duration](all []T) T {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// repeats is how many interleaved runs a median comes from.
func repeats() int {
	if *full {
		return 5
	}
	return 3
}

// The first answer after an upgrade comes as soon with many listeners, beside the same service on tableflip.
func TestFirstAnswerGrowsWithTheListeners(t *testing.T) {
	sizes := []int{1, 10, 100, 500}
	if *full {
		sizes = append(sizes, 1000, 2000)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "| listeners | midair | supervised | tableflip | 2 × tableflip + 15 µs a listener |\n| --- | --- | --- | --- | --- |\n")
	for _, n := range sizes {
		allow(t, 2*n)
		env := listenersEnv + "=" + strconv.Itoa(n)
		var alone, supervised, bare []time.Duration
		for range repeats() {
			a, _ := timed(t, "grown", env)
			s, _ := timed(t, "grown", env, superviseEnv+"=1")
			b, _ := timed(t, "flip", env)
			alone, supervised, bare = append(alone, a), append(supervised, s), append(bare, b)
		}
		limit := 2*middle(bare) + time.Duration(n)*15*time.Microsecond
		fmt.Fprintf(&out, "| %d | %s | %s | %s | %s |\n", n, ms(middle(alone)), ms(middle(supervised)), ms(middle(bare)), ms(limit))
		// Times decide only about a mistake: a cost that grows with the square of the listeners.
		if most := max(middle(alone), middle(supervised)); n >= 100 && most > 5*limit {
			t.Errorf("%d listeners: %v, the goal is %v", n, most, limit)
		}
	}
	t.Logf("signal to the first answer of the new process, medians of %d interleaved upgrades\n%s", repeats(), &out)
}

// The first answer after an upgrade, and the peak memory of the new process, with a kept state of several sizes.
func TestStateIsTwiceInTheNewProcessAtMost(t *testing.T) {
	sizes := []int{1 << 10, 1 << 20, 16 << 20}
	if *full {
		sizes = append(sizes, 64<<20)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "| state | first answer | one copy in memory | peak of the new process | without state |\n| --- | --- | --- | --- | --- |\n")
	_, base := timed(t, "grown")
	for _, n := range sizes {
		var first, copied []time.Duration
		var peaks []int
		for range repeats() {
			f, p := timed(t, "grown", stateEnv+"="+strconv.Itoa(n))
			first, peaks, copied = append(first, f), append(peaks, p), append(copied, copyTime(n))
		}
		fmt.Fprintf(&out, "| %d KiB | %s | %s | %d MiB | %d MiB |\n", n>>10, ms(middle(first)), ms(middle(copied)), middle(peaks)>>10, base>>10)
		if most := base + n>>10*26/10; n >= 16<<20 && middle(peaks) > most {
			t.Errorf("a state of %d MiB: the peak of the new process is %d MiB, want at most %d", n>>20, middle(peaks)>>10, most>>10)
		}
	}
	t.Logf("an upgrade with kept state, medians of %d\n%s", repeats(), &out)
}

// copyTime is how long a copy of n bytes into fresh memory takes.
func copyTime(n int) time.Duration {
	from := bytes.Repeat([]byte{1}, n)
	began := time.Now()
	copies = bytes.Clone(from)
	return time.Since(began)
}

var copies []byte
