package session_test

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

var keySteps = flag.Int("keysteps", 10_000, "how many steps the model of the keys takes")

// An event of the model. The number selects among what the event can be done to.
type event struct {
	what string
	n    int
}

func (e event) String() string { return fmt.Sprintf("%s %d", e.what, e.n) }

// events are those of the model, the frequent ones more than once.
var events = []string{
	"pass", "pass", "pass", "wait", "wait", "add", "add", "add 2", "remove", "swap", "damage", "begin", "begin", "commit",
	"commit", "abort", "crash of the candidate", "end of a drain", "rollback", "crash of all",
}

// lag is the most by which a process or a host may hear of a change later than another one.
const lag = 45 * time.Second

// A generation is a process of the model. It follows the file of its host, or hears of changes by code.
type generation struct {
	name    string
	keys    *session.KeyRing
	file    string    // that it follows; "": it is told
	told    int       // the change that it has heard of
	hears   time.Time // when it hears of the next one
	settles time.Duration
}

// world is what the model knows: the configuration in force, two hosts with a file each, and the processes.
type world struct {
	t         *testing.T
	dir       string
	settles   time.Duration
	made      int
	ids       map[string]string // by secret
	changes   [][]string        // all configurations there were; the last one is in force
	at        time.Time         // when the last change was made
	onB       int               // the change that has arrived at the second host
	arrives   time.Time         // when the last one does
	damaged   bool              // the file of the first host
	repaired  time.Time         // when it is good again
	serving   *generation
	next      *generation
	draining  []*generation
	elsewhere *generation
}

func newWorld(t *testing.T, settles time.Duration) *world {
	w := &world{t: t, dir: t.TempDir(), settles: settles, ids: map[string]string{}, changes: [][]string{{w0(0), w0(1)}}, made: 2, at: time.Now().Add(-time.Hour)}
	w.write("a", 0, w.at)
	w.write("b", 0, w.at)
	w.elsewhere = w.start("b", true)
	w.serving = w.start("a", true)
	return w
}

func w0(n int) string { return fmt.Sprintf("secret-%03d-%s", n, strings.Repeat("x", 32)) }

func (w *world) path(host string) string { return filepath.Join(w.dir, host) }

// write puts a configuration into the place of the file of a host.
func (w *world) write(host string, change int, at time.Time) {
	w.put(host, strings.Join(w.changes[change], "\n")+"\n", at)
}

func (w *world) put(host, content string, at time.Time) {
	tmp := w.path(host) + ".new"
	for _, err := range []error{os.WriteFile(tmp, []byte(content), 0o600), os.Chtimes(tmp, at, at), os.Rename(tmp, w.path(host))} {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// start begins a process on a host.
func (w *world) start(host string, follows bool) *generation {
	w.made++
	g := &generation{name: fmt.Sprintf("%s%d", host, w.made), keys: &session.KeyRing{}, told: len(w.changes) - 1, settles: w.settles}
	session.SetSettle(g.keys, w.settles)
	var err error
	if follows {
		g.file = w.path(host)
		err = g.keys.Follow(g.file)
	} else {
		err = g.keys.Rotate(secretsOf(w.changes[g.told])...)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", g.name, err)
	}
	return g
}

func secretsOf(config []string) (secrets [][]byte) {
	for _, s := range config {
		secrets = append(secrets, []byte(s))
	}
	return secrets
}

func (w *world) alive() []*generation {
	all := append([]*generation{w.serving, w.elsewhere}, w.draining...)
	if w.next != nil {
		all = append(all, w.next)
	}
	return all
}

// change makes a configuration the one in force. The first host has it at once, and the others within the lag.
func (w *world) change(config []string, n int) {
	w.catchUp(w.at.Add(lag)) // the change before has arrived everywhere
	w.changes = append(w.changes, config)
	w.at = time.Now()
	w.arrives = w.at.Add(time.Duration(n) * lag / 1000)
	w.write("a", len(w.changes)-1, w.at)
	w.damaged = false
	for i, g := range w.alive() {
		g.hears = w.at.Add(time.Duration((n+i*371)%1000) * lag / 1000)
	}
}

// catchUp lets time pass until then, and tells those who hear of a change by then.
func (w *world) catchUp(until time.Time) {
	for now := time.Now(); ; now = time.Now() {
		w.tell(now)
		if !now.Before(until) {
			return
		}
		time.Sleep(min(until.Sub(now), 5*time.Second))
	}
}

func (w *world) tell(now time.Time) {
	last := len(w.changes) - 1
	if w.damaged && !now.Before(w.repaired) {
		w.damaged = false
		w.write("a", last, w.at)
	}
	if w.onB < last && !now.Before(w.arrives) {
		w.onB = last
		w.write("b", last, now)
	}
	for _, g := range w.alive() {
		if g.file == "" && g.told < last && !now.Before(g.hears) {
			g.told = last
			if err := g.keys.Rotate(secretsOf(w.changes[last])...); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// step does an event, if it is possible now.
func (w *world) step(e event) {
	now, config := time.Now(), w.changes[len(w.changes)-1]
	switch e.what {
	case "pass":
		w.catchUp(now.Add(time.Duration(e.n) * time.Second / 100))
	case "wait":
		w.catchUp(now.Add(time.Duration(e.n) * time.Minute / 500))
	case "add", "add 2":
		for range len(e.what)/5 + 1 {
			w.made++
			config = append([]string{w0(w.made)}, config...)
		}
		if len(config) < 9 {
			w.change(config, e.n)
		}
	case "swap": // a key of before shall seal again
		if len(config) > 1 {
			w.change(append([]string{config[1], config[0]}, config[2:]...), e.n)
		}
	case "remove": // no cookie that the last key has sealed is in use any more
		if len(config) > 1 && !w.seals(config[len(config)-1]) {
			w.change(slices.Clone(config[:len(config)-1]), e.n)
		}
	case "damage":
		w.damaged, w.repaired = true, now.Add(10*time.Second)
		w.put("a", "half a secr", now)
	default:
		w.process(e)
	}
	w.tell(time.Now())
}

// seals reports whether a living process seals with a secret, or one that would be started.
func (w *world) seals(secret string) bool {
	id := w.id(secret)
	for _, g := range w.alive() {
		if session.SealsWith(g.keys) == id {
			return true
		}
	}
	return time.Since(w.at) < lag+w.settles // a process that starts now may seal with it
}

// id is that of the key of a secret.
func (w *world) id(secret string) string {
	if w.ids[secret] == "" {
		one, err := session.NewKeyRing([]byte(secret))
		if err != nil {
			w.t.Fatal(err)
		}
		w.ids[secret] = session.SealsWith(one)
	}
	return w.ids[secret]
}

// process does an event of processes.
func (w *world) process(e event) {
	follows := e.n%3 > 0
	switch {
	case e.what == "begin" && w.next == nil && len(w.draining) < 2 && !w.damaged:
		w.next = w.start("a", follows)
		testutil.HandOver(w.t, w.serving.keys, w.next.keys)
	case e.what == "commit" && w.next != nil:
		testutil.HandOver(w.t, w.serving.keys, w.next.keys)
		w.draining = append(w.draining, w.serving)
		w.serving, w.next = w.next, nil
	case e.what == "abort" && w.next != nil:
		testutil.HandOver(w.t, w.next.keys, w.serving.keys)
		w.next = nil
	case e.what == "crash of the candidate":
		w.next = nil
	case e.what == "end of a drain" && len(w.draining) > 0:
		w.draining = slices.Delete(w.draining, 0, 1)
	case e.what == "rollback" && w.next == nil && len(w.draining) == 1 && !w.damaged: // the file of the binary from before, started anew
		w.process(event{"begin", e.n})
		w.process(event{"commit", e.n})
	case e.what == "crash of all" && !w.damaged:
		w.next, w.draining = nil, nil
		w.serving = w.start("a", follows || time.Since(w.at) < lag+w.settles) // code has no time of the change
	}
}

// check returns what is sealed by one process and not opened by another one, or by one that a supervisor would start now.
func (w *world) check() error {
	for _, by := range w.alive() {
		id := session.SealsWith(by.keys)
		for _, g := range w.alive() {
			if !slices.Contains(session.OpensWith(g.keys), id) {
				return fmt.Errorf("%s seals with %s, and %s does not open it", by.name, id, g.name)
			}
		}
		for host, change := range map[string]int{"a": len(w.changes) - 1, "b": w.onB} {
			if !slices.ContainsFunc(w.changes[change], func(secret string) bool { return w.id(secret) == id }) {
				return fmt.Errorf("%s seals with %s, and a new process on %s does not open it", by.name, id, host)
			}
		}
	}
	return nil
}

// play does events in a new world, and returns the first violation with the number of events before it.
func play(t *testing.T, trace []event, settles time.Duration) (n int, err error) {
	w := newWorld(t, settles)
	for i, e := range trace {
		w.step(e)
		if err := w.check(); err != nil {
			return i + 1, err
		}
	}
	return len(trace), nil
}

// shortest leaves out what a violation does not need.
func shortest(t *testing.T, trace []event, settles time.Duration) []event {
	for i := len(trace) - 1; i >= 0; i-- {
		less := slices.Delete(slices.Clone(trace), i, i+1)
		if n, err := play(t, less, settles); err != nil {
			trace = less[:n]
		}
		i = min(i, len(trace))
	}
	return trace
}

func someEvents(random *rand.Rand) (trace []event) {
	for range 50 {
		trace = append(trace, event{events[random.IntN(len(events))], random.IntN(1000)})
	}
	return trace
}

// "whatever any living ring seals, every living ring and the rollback target opens": in random sequences of rotations by file
// and by code, upgrades, commits, aborts, rollbacks, crashes, damaged files and time, with up to four generations on one host and
// a process on another one, which hear of a change up to 45 s apart.
func TestNothingIsSealedThatALivingProcessDoesNotOpen(t *testing.T) {
	quiet(t)
	random := rand.New(rand.NewPCG(1, 2))
	for done := 0; done < *keySteps; {
		trace := someEvents(random)
		synctest.Test(t, func(t *testing.T) {
			n, err := play(t, trace, session.KeySettle)
			if done += n; err != nil {
				t.Fatalf("%v, after %v", err, shortest(t, trace[:n], session.KeySettle))
			}
		})
		if t.Failed() {
			return
		}
	}
}

// The model finds the fault if a key settles in less time than others need to hear of it.
func TestTheModelFindsKeysThatSealTooEarly(t *testing.T) {
	quiet(t)
	random := rand.New(rand.NewPCG(3, 4))
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			trace := someEvents(random)
			if n, err := play(t, trace, lag/3); err != nil {
				short := shortest(t, trace[:n], lag/3)
				if t.Logf("%v, after %v", err, short); len(short) > 6 {
					t.Errorf("the trace is not short")
				}
				return
			}
		}
		t.Error("no violation was found")
	})
}

// quiet keeps the log of a test away from its output.
func quiet(t *testing.T) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(before) })
}
