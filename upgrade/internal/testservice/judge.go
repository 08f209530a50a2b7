//go:build linux

package testservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// judge is a Bake with the settings of the moment and the directory of the service.
type judge func(ctx context.Context, c *upgrade.Candidate, set plan.Settings, dir string) error

var judges = map[plan.Judge]judge{
	plan.BakePasses:     func(context.Context, *upgrade.Candidate, plan.Settings, string) error { return nil },
	plan.BakeFails:      failBake,
	plan.BakePanics:     func(context.Context, *upgrade.Candidate, plan.Settings, string) error { panic("the judge fell over") },
	plan.BakeHangs:      hangBake,
	plan.BakeToggles:    toggle,
	plan.BakeSteps:      steps,
	plan.BakeHearsNews:  hearNews,
	plan.BakeRejectNews: rejectNews,
	plan.BakeBlueGreen:  blueGreen,
}

// bake asks the judge of the settings of the moment: tests change settings while a process runs.
func bake(ctx context.Context, c *upgrade.Candidate) error {
	set, dir, err := readSettings()
	if err != nil || set.Bake == "" {
		return err
	}
	judge, ok := judges[set.Bake]
	if !ok {
		return fmt.Errorf("no judge is named %q", set.Bake)
	}
	return judge(ctx, c, set, dir)
}

func failBake(context.Context, *upgrade.Candidate, plan.Settings, string) error {
	return errors.New("too many errors")
}

func hangBake(ctx context.Context, _ *upgrade.Candidate, _ plan.Settings, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// steps goes through the weights of the settings. The judge stays at each weight until the test removes the file "step".
func steps(ctx context.Context, c *upgrade.Candidate, set plan.Settings, dir string) error {
	found := watchFigures(dir, c)
	for n, w := range set.Weights {
		if err := c.SetWeight(w); err != nil {
			return err
		}
		if c.Weight() != w {
			return fmt.Errorf("the weight is %v, not %v", c.Weight(), w)
		}
		at := filepath.Join(dir, "step")
		if err := os.WriteFile(at, []byte(fmt.Sprint(n)), 0o600); err != nil {
			return err
		}
		for done := false; !done; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-found:
				return err
			case <-time.After(time.Millisecond):
				_, err := os.Stat(at)
				done = errors.Is(err, os.ErrNotExist)
			}
		}
	}
	return nil
}

// enoughFailures is how many failures of requests the judge of the steps waits for.
const enoughFailures = 5

// watchFigures sends an error when enough requests have failed, and writes down when.
func watchFigures(dir string, c *upgrade.Candidate) <-chan error {
	found := make(chan error, 1)
	failures := 0
	c.Subscribe("figures", func([]byte) error {
		if failures++; failures == enoughFailures {
			writeTime(dir, "verdict")
			found <- errors.New("too many failures")
		}
		return nil
	})
	return found
}

// toggle gives the candidate all connections and takes all back, again and again.
func toggle(ctx context.Context, c *upgrade.Candidate, _ plan.Settings, _ string) error {
	for n := 1; ; n++ {
		if err := c.SetWeight(float64(n % 2)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// hearNews passes when the candidate has published news.
func hearNews(ctx context.Context, c *upgrade.Candidate, _ plan.Settings, _ string) error {
	heard := make(chan string, 100)
	c.Subscribe("other", func([]byte) error { return errors.New("not for us") })
	c.Subscribe("news", func(b []byte) error {
		heard <- string(b)
		return nil
	})
	select {
	case s := <-heard:
		if want := fmt.Sprint("from ", c.PID()); s != want {
			return fmt.Errorf("heard %q, want %q", s, want)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rejectNews has a subscriber with an error.
func rejectNews(ctx context.Context, c *upgrade.Candidate, _ plan.Settings, _ string) error {
	c.Subscribe("other", func([]byte) error { return errors.New("not for us") })
	c.Subscribe("news", func([]byte) error { return errors.New("bad news") })
	<-ctx.Done()
	return ctx.Err()
}

func blueGreen(ctx context.Context, c *upgrade.Candidate, set plan.Settings, _ string) error {
	return upgrade.BlueGreen{Standby: set.Standby}.Bake(ctx, c)
}

// publishNews publishes news for the judge of the old process as long as this process is a candidate.
func publishNews(ctx context.Context, up *upgrade.Upgrader) {
	for ctx.Err() == nil && up.Status().State == "candidate" {
		_ = up.Publish("news", []byte(fmt.Sprint("from ", os.Getpid()))) // the next news will do
		time.Sleep(time.Millisecond)
	}
}
