package flags_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

// wait lets the fake time of a synctest bubble pass.
func wait(seconds int) {
	<-time.After(time.Duration(seconds) * time.Second)
	synctest.Wait()
}

// A change is served a second after it at the latest, and at the interval that was asked for.
func TestChangeIsServedWithinPoll(t *testing.T) {
	for _, c := range []struct {
		poll   time.Duration
		before int // seconds without a look
	}{{0, 0}, {10 * time.Second, 9}} {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "flags.json")
			write(t, path, file("off"))
			f, err := flags.Open(path, flags.Options{Poll: c.poll, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			replace(t, path, file("on"))
			wait(c.before)
			mustBe(t, "before the look", cart(f), "off")
			wait(1)
			mustBe(t, "after it", cart(f), "on")
		})
	}
}

// Close ends the polling, may be called again and at the same time, and leaves the values.
func TestCloseStopsAndKeepsValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "flags.json")
		write(t, path, file("on"))
		f, err := flags.Open(path, flags.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		for range 3 {
			go func() { done <- f.Close() }()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		replace(t, path, file("off"))
		wait(10)
		mustBe(t, "the flag", cart(f), "on")
		if err := f.Ready(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// gate is a log that lets one look at a time ask whether a line is wanted, and wants none.
type gate chan struct{}

func (g gate) Enabled(context.Context, slog.Level) bool {
	<-g
	return false
}

func (gate) Handle(context.Context, slog.Record) error { return nil }
func (g gate) WithAttrs([]slog.Attr) slog.Handler      { return g }
func (g gate) WithGroup(string) slog.Handler           { return g }

// Close waits for a look that is under way.
func TestCloseWaitsForLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "flags.json")
		write(t, path, file("on"))
		g := make(gate, 1)
		g <- struct{}{} // for the line of Open
		f, err := flags.Open(path, flags.Options{Logger: slog.New(g)})
		check(t, err)
		write(t, path, file("off"))
		wait(1)
		closed := make(chan error, 1)
		go func() { closed <- f.Close() }()
		synctest.Wait()
		mustBe(t, "Close has returned", len(closed), 0)
		g <- struct{}{}
		check(t, <-closed)
	})
}

// Another file of the same size and time is another file.
func TestRenamedFileOfSameSizeAndTimeIsRead(t *testing.T) {
	f, path := served(t, file("on")+" ", flags.Options{})
	old := time.Now().Add(-time.Hour)
	check(t, os.Chtimes(path, old, old))
	f.Check()
	write(t, path+".new", file("off"))
	check(t, os.Chtimes(path+".new", old, old))
	check(t, os.Rename(path+".new", path))
	f.Check()
	mustBe(t, "the flag", cart(f), "off")
}

// The poller goes through a bad time of the file and comes out with what is good then; handles, weights and
// the client of the SDK with it.
func TestPollerSurvivesBadTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		path := filepath.Join(t.TempDir(), "flags.json")
		f, err := flags.Open(path, flags.Options{Logger: j.logger()})
		check(t, err)
		defer f.Close()
		h, weight, client := f.BoolFlag("cart", false), f.Weight("w", 0), f.Client()
		two := func(variant, w string) string {
			return strings.Replace(file(variant), `"flags": {`, `"flags": {"w": {"state": "ENABLED", "variants": {"v": `+w+`}, "defaultVariant": "v"},`, 1)
		}
		for _, c := range []struct {
			content string
			minutes int
			on      bool
			weight  float64
			state   openfeature.State
		}{
			{"", 0, false, 0, openfeature.ErrorState},
			{two("on", "0.1"), 1, true, 0.1, openfeature.ReadyState},
			{two("on", "0.1")[:50], 5, true, 0.1, openfeature.StaleState},
			{"garbage", 5, true, 0.1, openfeature.StaleState},
			{two("on", "0.1"), 0, true, 0.1, openfeature.ReadyState},
			{two("off", "0.9"), 24, false, 0.9, openfeature.ReadyState},
			{two("off", "9"), 1, false, 0, openfeature.ReadyState},
		} {
			if c.content != "" {
				write(t, path, c.content)
			}
			wait(c.minutes*60 + 1)
			mustBe(t, "the handle", h.Get(t.Context()), c.on)
			mustBe(t, "the client", client.Boolean(t.Context(), "cart", false, openfeature.EvaluationContext{}), c.on)
			mustBe(t, "the weight", weight(), c.weight)
			mustBe(t, "the state", client.State(), c.state)
		}
		if lines := j.lines(); len(lines) != 8 {
			t.Errorf("%d lines in the log: %q", len(lines), lines)
		}
	})
}
