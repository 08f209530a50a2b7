package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/midair-go/midair/examples/internal/admin"
)

const demoSynopsis = `Usage: httpserver demo

Builds good and bad versions of this program, and upgrades a service from one to
the next while clients keep asking. Needs nothing but the go command. The exit
status is 1 if a request was lost, or if the service lost count of a visitor.

`

// How long the service is left alone between two upgrades and may take to end, and the number of clients.
const (
	restTime     = 700 * time.Millisecond
	endLimit     = 8 * time.Second // more than -grace
	keptClients  = 4
	freshClients = 6 // chance assigns each of their connections, so each of their requests is evidence
	guests       = 4
)

// demo is a run of the demo.
type demo struct {
	out      screen
	builder  builder
	service  *service
	load     *load
	visitors *visitors
	failed   bool // finish has said why
}

// demoCommand runs the demo and leaves nothing behind: no process, no file.
func demoCommand(args []string) error {
	if err := parseFlags(flagSet("httpserver demo", demoSynopsis), args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	d := &demo{out: newScreen(os.Stdout)}
	err := d.run(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		d.out.say("", "interrupted; everything is stopped")
		return errSaid
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		return errSaid
	case d.failed:
		return errSaid
	}
	return nil
}

func (d *demo) run(ctx context.Context) error {
	if runtime.GOOS == "windows" {
		return errors.New("a listening socket cannot be handed to another process here, so there is nothing to see")
	}
	dir, err := os.MkdirTemp("", "midair")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d.out.title("A service replaces itself while clients keep asking")
	if err := d.build(ctx, dir); err != nil {
		return err
	}
	exe, err := d.builder.use(v1.version)
	if err != nil {
		return err
	}
	d.service, err = startService(ctx, exe, dir)
	if d.service != nil {
		defer d.service.end(endLimit) // after finish there is nothing left to tell
	}
	if err == nil {
		d.out.say("start", fmt.Sprintf("v1 on http://%s, supervised by pid %d", d.service.addr, d.service.started()[0]))
		err = d.play(ctx)
	}
	if err != nil && ctx.Err() == nil && d.service != nil {
		err = fmt.Errorf("%w\nthe service said:\n%s", err, d.service.lastLines())
	}
	return err
}

func (d *demo) build(ctx context.Context, dir string) (err error) {
	if d.builder, err = newBuilder(ctx, dir); err != nil {
		return err
	}
	for _, r := range builds {
		begin := time.Now()
		if err := d.builder.build(ctx, r); err != nil {
			return err
		}
		d.out.say("build", fmt.Sprintf("%s, %s (%s)", r.version, r.about, short(time.Since(begin))))
	}
	return nil
}

// play is the story: serve, upgrade by steps, give half of the visitors the new cart, try four bad releases, go back to
// v1, give the new cart to all, and let a cart in a process of its own crash.
func (d *demo) play(ctx context.Context) error {
	d.load = startLoad(d.service.addr, v1.version+" serves", keptClients, freshClients)
	d.visitors = startVisitors(d.service.addr, guests)
	d.out.say("steps", "each new version gets 10%, 50%, 100% of the connections, and is judged")
	d.out.say("load", fmt.Sprintf("%d clients that keep their connection, %d that open new ones, and %d visitors with a cookie; no retries", keptClients, freshClients, guests))
	err := d.story(ctx)
	if err == nil {
		err = d.crash(ctx)
	}
	phases := d.load.stop()
	counts := d.visitors.stop()
	if err != nil {
		return err
	}
	d.finish(phases, counts)
	return nil
}

func (d *demo) story(ctx context.Context) error {
	for _, step := range []func() error{
		func() error { return sleep(ctx, restTime) },
		func() error { return d.good(ctx, v1, v2) },
		func() error { return d.rest(ctx, v2) },
		func() error { return d.mark(ctx) },
		func() error { return d.weigh(ctx, "0%", "50%", 0.5) },
		func() error { return d.bad(ctx, v2, v3) },
		func() error { return d.rest(ctx, v2) },
		func() error { return d.bad(ctx, v2, v4) },
		func() error { return d.rest(ctx, v2) },
		func() error { return d.bad(ctx, v2, v5) },
		func() error { return d.rest(ctx, v2) },
		func() error { return d.bad(ctx, v2, v6) },
		func() error { return d.rest(ctx, v2) },
		func() error { return d.good(ctx, v2, v1) },
		func() error { return d.rest(ctx, v1) },
		func() error { return d.mark(ctx) },
		func() error { return d.weigh(ctx, "50%", "100%", 1) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) rest(ctx context.Context, r release) error {
	d.load.begin(r.version + " serves")
	return sleep(ctx, restTime)
}

// weigh edits the flag file as an operator would, and waits until the router has the new weight.
func (d *demo) weigh(ctx context.Context, from, to string, weight float64) error {
	d.load.begin("cart-v2 " + from + " -> " + to)
	begin := time.Now()
	if err := d.service.weigh(ctx, from, to, weight); err != nil {
		return err
	}
	d.out.say("flag", fmt.Sprintf("%s of the visitors get the new cart, %s after an edit of flags.json", to, short(time.Since(begin))))
	return d.mark(ctx)
}

// mark adds a column to the table of visitors.
func (d *demo) mark(ctx context.Context) error {
	err := d.service.until(ctx, "every visitor comes again", d.visitors.since())
	if err == nil {
		d.visitors.mark()
	}
	return err
}

// good upgrades and waits until every client has an answer of the new version.
func (d *demo) good(ctx context.Context, from, to release) error {
	name := fmt.Sprintf("%s -> %s", from.version, to.version)
	outcome, took, err := d.upgrade(ctx, name, to)
	if err != nil {
		return fmt.Errorf("upgrade %s: %w", name, err)
	}
	d.load.rename(name + ": committed")
	d.out.say(name, "committed after "+short(took)+": "+strings.TrimPrefix(outcome, name+", "))
	return d.service.until(ctx, "every client is answered by "+to.version, func() bool { return d.load.all(to.version) })
}

// bad tries to upgrade to a bad release, and returns an error if the release is not taken back.
func (d *demo) bad(ctx context.Context, from, to release) error {
	name := fmt.Sprintf("%s -> %s", from.version, to.version)
	_, took, err := d.upgrade(ctx, name, to)
	var r *admin.Refusal
	switch {
	case err == nil:
		return fmt.Errorf("upgrade %s: committed, although the release is bad", name)
	case !errors.As(err, &r):
		return fmt.Errorf("upgrade %s: %w", name, err)
	}
	d.load.rename(name + ": taken back")
	d.out.say(name, fmt.Sprintf("taken back after %s, in phase %s:", short(took), r.Phase))
	d.out.say("", r.Reason)
	return nil
}

func (d *demo) upgrade(ctx context.Context, name string, to release) (string, time.Duration, error) {
	d.load.begin(name)
	if _, err := d.builder.use(to.version); err != nil {
		return "", 0, err
	}
	begin := time.Now()
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { d.watch(watching, name) }) // ends with stop
	out, err := d.service.admin.Replace(ctx, "/upgrade")
	took := time.Since(begin)
	stop()
	watch.Wait()
	return describe(out), took, err
}

// watch prints the counts of the judge twice a second during an upgrade, and at the end why the judge takes the release back.
func (d *demo) watch(ctx context.Context, name string) {
	for going := true; going; {
		going = sleep(ctx, time.Second/2) == nil
		var s siteView
		switch err := d.service.admin.Status(context.WithoutCancel(ctx), &s); {
		case err != nil:
		case s.judging(), !going && s.Release.State == "rolled back":
			d.out.say(name, s.Release.String())
			name = ""
		}
	}
}

// finish stops the service and prints the tables of the requests and of the visitors.
func (d *demo) finish(phases []*phase, counts []int) {
	failed := d.stop()
	d.out.say("stop", fmt.Sprintf("all %d processes have ended", len(d.service.started())))
	total := table(d.out, phases)
	failed = append(failed, verdict(total, d.load.losses)...)
	failed = append(failed, visitorTable(d.out, d.visitors.all, counts)...)
	if d.failed = len(failed) > 0; d.failed {
		d.out.bad("FAILED: " + strings.Join(failed, "\n        "))
		return
	}
	d.out.good(fmt.Sprintf("%s requests were sent, each was answered once, none was lost.\nEach visitor was counted right and stayed on its side.", thousands(total.sent)))
}

// stop ends the service and returns the problems of the end.
func (d *demo) stop() (failed []string) {
	if err := d.service.end(endLimit); err != nil {
		failed = append(failed, err.Error())
	}
	select {
	case err := <-d.service.waited:
		if err != nil {
			failed = append(failed, "the first process: "+err.Error())
		}
	case <-time.After(time.Second):
		failed = append(failed, "the first process was not seen to end")
	}
	return failed
}

// verdict returns the problems of the sum of all requests.
func verdict(total phase, losses []string) []string {
	answered := 0
	for _, r := range []release{v1, v2, v5, v6} { // v5 answers late, and v6 now and then with an error
		answered += total.answered[r.version]
	}
	if total.lost == 0 && answered == total.sent {
		return nil
	}
	return append([]string{fmt.Sprintf("of %d requests %d were lost, and %d answered by a bad version",
		total.sent, total.lost, total.sent-total.lost-answered)}, losses...)
}
