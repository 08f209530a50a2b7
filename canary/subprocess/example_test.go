package subprocess_test

import (
	"context"
	"log"
	"net/http"
	"os/exec"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/upgrade"
)

func oldCart(w http.ResponseWriter, _ *http.Request)   { _, _ = w.Write([]byte("the old cart")) }
func newCartV2(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("the new cart")) }

// The main of the program of the new handler.
func ExampleServe() {
	if err := subprocess.Serve(http.HandlerFunc(newCartV2)); err != nil {
		log.Fatal(err) // the host has ended, for example
	}
}

// The main of a host that may be upgraded, with a rollout that goes on through upgrades. Start is called before Run: a new host
// is not prepared before its process serves, and an upgrade is taken back if the process does not start. Close is called after
// Run, which returns when the requests of the old host have ended.
func ExampleStart() {
	run := func(ctx context.Context) error {
		up, err := upgrade.New(upgrade.Options{PIDFile: "/run/shop/pid"})
		if err != nil {
			return err
		}
		defer up.Close()
		ln, err := up.Listen("tcp", ":8080")
		if err != nil {
			return err
		}
		ro, err := rollout.New(rollout.Options{
			Name: "cart-v2", Salt: "cart-v2 of 28 November",
			Steps:     rollout.Steps{{Weight: .05, For: 10 * time.Minute}, {Weight: .5, For: 30 * time.Minute}},
			Broadcast: up.Broadcast, Follows: func() bool { return up.Status().State != "serving" },
		})
		if err != nil {
			return err
		}
		up.Keep("cart-v2", ro)
		up.OnBroadcast("cart-v2", ro.Ingest)

		cart, err := subprocess.Start(ctx, subprocess.Options{ // before Run
			Name: "cart-v2", Dir: "/run/shop/cart",
			Cmd: func() *exec.Cmd { return exec.Command("/opt/shop/cart-v2") },
		})
		if err != nil {
			return err
		}
		defer cart.Close() // after Run

		router := canary.NewRouter(http.HandlerFunc(oldCart), cart, canary.Options{
			Salt: ro.Salt(), Weight: ro.Weight, Begin: ro.Begin, Observe: ro.Observe, Rescue: &canary.Rescue{Unserved: true},
		})
		srv := drain.NewServer(&http.Server{Handler: router}, drain.Options{Move: up.Move})
		return up.Run(ctx, func(ctx context.Context) error {
			drained, done := context.WithCancel(context.WithoutCancel(ctx))
			defer done()
			go func() { _ = ro.Run(drained) }() // ends when the requests have ended
			return srv.Serve(ctx, ln)
		})
	}
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
