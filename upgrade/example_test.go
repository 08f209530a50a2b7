package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/upgrade"
)

// A web server that replaces itself on SIGHUP.
func Example() {
	run := func(ctx context.Context, mux http.Handler) error { // main ends with status 1 if run returns an error
		up, err := upgrade.New(upgrade.Options{PIDFile: "shop.pid"}) // first: New finds out whether this process is an upgrade
		if err != nil {
			return err
		}
		defer up.Close()
		ln, err := up.Listen("tcp", ":8080") // inherited after an upgrade
		if err != nil {
			return err
		}
		srv := drain.NewServer(&http.Server{Handler: mux}, drain.Options{Grace: 30 * time.Second, Move: up.Move})
		return up.Run(ctx, func(ctx context.Context) error { return srv.Serve(ctx, ln) })
	}
	_ = run
}

// The line goes into main after the subcommands that do not serve.
func ExampleSupervise() {
	main := func() {
		if code, ok := upgrade.Supervise(upgrade.Options{}); ok {
			os.Exit(code)
		}
		// the service: upgrade.New and so on
	}
	_ = main
}

// A deploy script replaces the program's file and calls Request, which prints how the upgrade ended.
func ExampleRequest() {
	deploy := func(ctx context.Context) error {
		outcome, err := upgrade.Request(ctx, "shop.pid")
		_ = json.NewEncoder(os.Stdout).Encode(outcome)
		return err // nil: the new process serves
	}
	_ = deploy
}

// counter is a kept value. Its methods are called while requests are served.
type counter struct{ atomic.Int64 }

func (c *counter) MarshalBinary() ([]byte, error) { return json.Marshal(c.Load()) }

func (c *counter) UnmarshalBinary(b []byte) error {
	var n int64
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	c.Store(n)
	return nil
}

// A value that passes from the old process to the new one, and back if the upgrade is aborted.
func ExampleUpgrader_Keep() {
	var visits counter
	prepare := func(up *upgrade.Upgrader) { up.Keep("visits", &visits) }

	visits.Add(41)
	snapshot, _ := visits.MarshalBinary() // as the old process does
	var restored counter
	fmt.Println(restored.UnmarshalBinary(snapshot), restored.Load()) // as the new process does
	_ = prepare
	// Output: <nil> 41
}

// A condition without which a new version must not serve.
func ExampleUpgrader_Check() {
	prepare := func(up *upgrade.Upgrader, ping func(context.Context) error) {
		up.Check("database", ping)
	}
	_ = prepare
}

// A store with a single writer: the old process releases the store right before the commit, the new one opens it.
func ExampleUpgrader_Exclusive() {
	prepare := func(up *upgrade.Upgrader, open, close func(context.Context) error) {
		up.Exclusive("store", upgrade.Resource{Acquire: open, Release: close})
	}
	_ = prepare
}

// A new version gets 5 % of the connections, then 25 %, and all of them if it makes no errors meanwhile.
func ExampleCandidate_SetWeight() {
	bake := func(ctx context.Context, c *upgrade.Candidate) error {
		var failures atomic.Int64
		c.Subscribe("failure", func([]byte) error { failures.Add(1); return nil }) // the candidate calls Publish("failure", nil)
		for _, weight := range []float64{0.05, 0.25} {
			if err := c.SetWeight(weight); err != nil {
				return err
			}
			select {
			case <-ctx.Done(): // the candidate has died, or an operator has aborted or committed the upgrade
				return ctx.Err()
			case <-time.After(time.Minute):
			}
			if n := failures.Load(); n > 0 {
				return fmt.Errorf("%d failed requests at weight %v", n, weight) // the candidate is taken back
			}
		}
		return nil // commit
	}
	options := upgrade.Options{Bake: bake}
	_ = options
}

// An admin handler that brings back the build before the last commit.
func ExampleUpgrader_Rollback() {
	handler := func(up *upgrade.Upgrader) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			err := up.Rollback(context.WithoutCancel(r.Context()))
			var failed *upgrade.Error
			switch {
			case errors.As(err, &failed): // this process goes on; the error has the phase and the reason
				http.Error(w, err.Error(), http.StatusBadGateway)
			case err != nil: // refused: nothing to go back to, or an upgrade is under way
				http.Error(w, err.Error(), http.StatusConflict)
			}
		}
	}
	_ = handler
}
