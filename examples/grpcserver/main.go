// Grpcserver is a gRPC service that replaces itself while it runs: examples/httpserver, for calls and streams.
//
//	grpcserver -addr :9090 -pid-file grpc.pid
//	curl -X POST http://127.0.0.1:9091/upgrade    # or /commit, /abort, /rollback, /drain; GET /status
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/grpcdrain"
	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/examples/internal/failing"
	"github.com/midair-go/midair/upgrade"
)

// version is what -ldflags "-X main.version=v2" sets.
var version = "dev"

// fail is the default of -fail. Set with -ldflags "-X main.fail=check" it makes a binary that is bad by itself.
var fail string

type config struct {
	addr, addrFile, pidFile, admin string
	grace, propagation             time.Duration
	timeout, soak                  time.Duration
	canary                         float64
	steps                          rollout.Steps
	fail                           failing.Mode
}

// serverStatus is the answer of the admin listener's GET /status.
type serverStatus struct {
	Upgrade upgrade.Status `json:"upgrade"`
	Drain   drain.Status   `json:"drain"`
	Canary  canary.Status  `json:"canary"`

	Release rollout.Status `json:"release"` // of the last progressive upgrade
}

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if code, ok := upgrade.Supervise(upgrade.Options{Version: version}); ok {
		os.Exit(code)
	}
	var c config
	if err := c.fail.Set(fail); err != nil {
		slog.Error("main.fail, set at link time", "err", err)
		os.Exit(2)
	}
	flag.StringVar(&c.addr, "addr", "127.0.0.1:9090", "`address` to serve on")
	flag.StringVar(&c.addrFile, "addr-file", "", "`path` of a file that gets the real address")
	flag.StringVar(&c.pidFile, "pid-file", "", "`path` of a file that names the process to signal")
	flag.StringVar(&c.admin, "admin", "127.0.0.1:9091", "`address` of the admin listener or unix:PATH; empty: none")
	flag.DurationVar(&c.grace, "grace", 30*time.Second, "how long calls may take to end")
	flag.DurationVar(&c.propagation, "propagation", 0, "how long a stop goes on to accept after the health service says NOT_SERVING")
	flag.DurationVar(&c.timeout, "upgrade-timeout", time.Minute, "how long a new process may take to be prepared")
	flag.DurationVar(&c.soak, "soak", time.Second, "how long both processes accept before the commit")
	flag.Float64Var(&c.canary, "canary", 0, "`share` of the calls that the new echo gets, from 0 to 1; metadata canary: true gets it")
	flag.Var(&c.steps, "steps", "make upgrades progressive by `plan`, such as 5%:10s,25%:10s:1000,100%:10s, in place of -soak")
	flag.Var(&c.fail, "fail", "be a bad release; `how` is one of "+failing.Names())
	flag.Parse()
	if err := run(context.Background(), c); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

// run is the service.
func run(ctx context.Context, c config) error {
	c.fail.BeforeNew()
	var up *upgrade.Upgrader
	release, err := c.newRelease(func(name string, message []byte) error { return up.Broadcast(name, message) })
	if err != nil {
		return err
	}
	up, err = upgrade.New(upgrade.Options{
		Version: version, PIDFile: c.pidFile, Bake: c.bake(release),
		Soak: c.soakTime(), Timeout: c.timeout, AbortGrace: c.grace,
	})
	if err != nil {
		return err
	}
	defer up.Close()
	up.OnBroadcast("release", release.Ingest)
	c.fail.AfterNew(up)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ln, err := up.Listen("tcp", c.addr)
	if err != nil {
		return err
	}
	e := &echo{header: identity(up.Status()), fail: &c.fail}
	calls, hs := new(grpcdrain.Observer), health.NewServer()
	opts, err := e.options(release)
	if err != nil {
		return err
	}
	gs := grpc.NewServer(append(opts, grpc.StatsHandler(calls))...)
	srv := grpcdrain.NewServer(gs, drain.Options{Grace: c.grace, Propagation: c.propagation})
	srv.Observe(calls)
	srv.SetHealth(hs)
	rt, err := e.register(gs, c.canary)
	if err != nil {
		return err
	}
	grpc_health_v1.RegisterHealthServer(gs, hs)
	reflection.Register(gs)
	adm, err := admin.Listen(up, admin.Options{
		Addr: c.admin, Grace: c.grace, Stop: stop,
		Status: func() any {
			return serverStatus{up.Status(), srv.Core().Status(), rt.Core().Status(), release.Status()}
		},
	})
	if err != nil {
		return err
	}
	return up.Run(ctx, func(ctx context.Context) error {
		who := up.Status()
		if err := announce(c.addrFile, ln.Addr().String()); err != nil && who.Generation == 1 {
			return err
		} else if err != nil { // it is there since the first one
			slog.Error("the address file is not written again", "err", err)
		}
		// This ends when it is written: serving does not wait for a log.
		go slog.Info("serving", "addr", ln.Addr().String(), "version", version, "generation", who.Generation, "pid", who.PID)
		go release.Report(ctx) // ends with ctx
		return adm.Beside(ctx, func(ctx context.Context) error { return srv.Serve(ctx, c.fail.Listener(ctx, ln)) })
	})
}

func identity(s upgrade.Status) map[string]string {
	return map[string]string{"x-version": s.Version, "x-generation": strconv.Itoa(s.Generation), "x-pid": strconv.Itoa(s.PID)}
}

// announce writes the address for whoever started this, as a whole or not at all.
func announce(path, addr string) error {
	if path == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d", filepath.Base(path), os.Getpid()))
	if err := os.WriteFile(tmp, []byte(addr+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
