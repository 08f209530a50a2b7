// Httpserver is a web service that replaces itself while it runs, and the place to copy from. Start it, build a new
// version over its executable, and send it a SIGHUP: the new process takes over without a lost request, or is taken
// back.
//
//	go run ./examples/httpserver demo            # see it happen, with every request accounted for
//	httpserver -addr :8080 -pid-file web.pid     # serve
//	httpserver upgrade -pid-file web.pid         # upgrade, wait for the outcome, say why
//	httpserver -canary-bin $(which httpserver)   # serve, with the new cart in a process of its own
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/otelcanary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/certs"
)

// version is set by -ldflags "-X main.version=v2".
var version = "dev"

func main() {
	if asksForService(os.Args[1:]) {
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if code, ok := upgrade.Supervise(upgrade.Options{Version: version}); ok {
			os.Exit(code)
		}
	}
	os.Exit(command(os.Args[1:]))
}

// asksForService reports whether the arguments ask for the service, and not for a command.
func asksForService(args []string) bool {
	return !slices.Contains([]string{"demo", "upgrade", "cart"}, first(args))
}

// command runs the subcommand or the service, and returns the exit status: 2 for wrong arguments.
func command(args []string) int {
	var err error
	switch name := first(args); name {
	case "demo":
		err = demoCommand(args[1:])
	case "upgrade":
		err = upgradeCommand(args[1:])
	case "cart":
		err = cartCommand(args[1:])
	default:
		var c config
		if err = c.parse(args); err == nil {
			err = run(context.Background(), c)
		}
	}
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		return 2
	case errors.Is(err, errSaid):
		return 1
	}
	slog.Error("stopped", "err", err)
	return 1
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// run is a process of the service: upgrade.New finds out whether the process is the first or an upgrade, and serve does the rest.
func run(ctx context.Context, c config) error {
	c.fail.BeforeNew()
	var up *upgrade.Upgrader
	release, err := newRelease(c.steps, func(name string, message []byte) error { return up.Broadcast(name, message) })
	if err != nil {
		return err
	}
	up, err = upgrade.New(upgrade.Options{
		Version: version, PIDFile: c.pidFile, Bake: bake(c.steps, release),
		Soak: c.soakTime(), Timeout: c.upgradeTimeout, AbortGrace: c.grace,
	})
	if err != nil {
		return err
	}
	defer up.Close()
	up.OnBroadcast("release", release.Ingest)
	c.fail.AfterNew(up)
	if err := createFiles(c.flags, c.sessions, up.Status().Generation == 1); err != nil {
		return err
	}
	return serve(ctx, c, up, release)
}

// serve opens flags, sessions, rollout and listeners, serves, and closes everything in the opposite order.
func serve(ctx context.Context, c config, up *upgrade.Upgrader, release *rollout.Processes) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ff, err := openFlags(c.flags, up)
	if err != nil {
		return err
	}
	defer ff.Close()
	sm := session.NewManager(session.Dir(c.sessions), session.Options{})
	up.Keep("keys", sm.Keys())
	up.Check("sessions", sm.Ready)
	kill := killSwitch(c.flags, up)
	ro, err := newCartRollout(ff, kill, up)
	if err != nil {
		return err
	}
	v2, err := openCart(ctx, c)
	if err != nil {
		return err
	}
	defer v2.Close()
	shop, spans := newShop(ff, sm, ro.Weight), otelcanary.Spans("cart-v2", version, up.Status().Generation)
	cart := canary.NewRouter(shop.with(http.HandlerFunc(oldCart)), c.fail.Cart(shop.with(v2)), canary.Options{
		Name: "cart-v2", Salt: ro.Salt(), Weight: ro.Weight, Kill: kill, // flags move it, until it is worse
		Key: sm.Cohort, SideInContext: true, // a visitor stays on one side, and flags know which
		Rescue: &canary.Rescue{Unserved: true, Attempt: sm.Attempt}, // the old cart answers while the new one is away
		Begin:  ro.Begin, Observe: func(o canary.Outcome) { ro.Observe(o); spans(o) },
	})
	up.Keep("cart", cart)

	ln, err := up.Listen(admin.Network(c.addr))
	if err != nil {
		return err
	}
	hs := newHTTPServer()
	if c.tlsCert != "" {
		tc, err := openCerts(ctx, up, c.tlsCert, c.tlsKey)
		if err != nil {
			return err
		}
		defer tc.Close()
		hs.TLSConfig = tc.Config()
	}
	web := drain.NewServer(hs, drain.Options{Grace: c.grace, Move: up.Move, Rebalance: up.Rebalance(), Hurry: up.Hurry()})
	adm, err := admin.Listen(up, admin.Options{
		Addr: c.admin, Grace: c.grace, Stop: stop, Page: adminPage(), Actions: actions(kill, ff, release, ro),
		Status: func() any {
			return siteStatus{up.Status(), web.Status(), cart.Status(), ff.Status(), kill.Status(), release.Status(), ro.Status(), v2.status()}
		},
	})
	if err != nil {
		return err
	}
	who := newIdentity(up.Status())
	site := newSite(who, sitePage(who, adm.Curl(), c.flags), web.Readiness(),
		sm.Middleware(http.HandlerFunc(count)), sm.Middleware(cart))
	hs.ConnContext = release.ConnContext
	hs.Handler = admin.Tag(up.Status(), release.Handler(c.fail.Middleware(site)))
	return up.Run(ctx, func(ctx context.Context) error {
		if err := announce(ctx, c.addrFile, ln.Addr(), who); err != nil {
			return err
		}
		go release.Report(ctx) // ends with ctx
		return ro.beside(ctx, func() error {
			return adm.Beside(ctx, func(ctx context.Context) error {
				return accept(ctx, web, c.fail.Listener(ctx, ln), c.tlsCert != "")
			})
		})
	})
}

// newHTTPServer returns a server that speaks HTTP/1.1 and HTTP/2, with and without TLS.
func newHTTPServer() *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Protocols:         p,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}

// accept serves the connections of ln, with TLS or without.
func accept(ctx context.Context, web *drain.Server, ln net.Listener, tls bool) error {
	if tls {
		return web.ServeTLS(ctx, ln, "", "") // the certificate is in TLSConfig
	}
	return web.Serve(ctx, ln)
}

// openCerts follows the files of the certificate and the key, and passes the keys of TLS tickets on, so that clients resume
// after an upgrade. The first process does not start without a certificate; a later process is taken back.
func openCerts(ctx context.Context, up *upgrade.Upgrader, cert, key string) (*certs.Certs, error) {
	tc, err := certs.Open(cert, key, certs.Options{})
	if err != nil {
		return nil, err
	}
	up.Keep("tls", tc)
	up.Check("tls", tc.Ready)
	if err := tc.Ready(ctx); errors.Is(err, certs.ErrNoCertificate) && up.Status().Generation == 1 {
		return nil, errors.Join(err, tc.Close())
	}
	return tc, nil
}

// announce writes the address of the service to the file, unless there is no file, and to the log.
func announce(ctx context.Context, file string, addr net.Addr, who identity) error {
	if file != "" {
		if err := keepWriting(ctx, file, addr.String()+"\n"); err != nil {
			if err = fmt.Errorf("-addr-file: %w", err); who.generation == 1 && isMistake(err) {
				return err
			}
			slog.Error("serving without", "err", err) // it is tried again
		}
	}
	// The goroutine ends when the line is written: serving does not wait for a log.
	go slog.Info("serving", "addr", addr.String(), "version", who.version, "generation", who.generation, "pid", who.pid)
	return nil
}
