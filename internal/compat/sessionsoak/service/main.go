// Service is a program for tests: it counts the requests of each visitor in the visitor's session, and replaces itself by another
// version while it does.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/redisstore"
	"github.com/midair-go/midair/session/sqlstore"
	"github.com/midair-go/midair/upgrade"
)

// version is what -ldflags "-X main.version=v2" sets.
var version = "dev"

const (
	// storeLimit is how long a request waits for the store.
	storeLimit = time.Second
	// stepTime is how long a candidate has each share of the connections, if the file progressiveFile is there.
	stepTime        = 50 * time.Millisecond
	progressiveFile = "progressive"
)

func main() {
	if code, ok := upgrade.Supervise(upgrade.Options{Version: version}); ok {
		os.Exit(code)
	}
	if err := run(context.Background()); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	engine := flag.String("store", "dir", "dir, redis or postgres")
	source := flag.String("source", "sessions", "the directory, or the address of the server")
	flag.Parse()
	store, err := open(ctx, *engine, *source)
	if err != nil {
		return err
	}
	up, err := upgrade.New(upgrade.Options{Version: version, PIDFile: "pid", Bake: bake})
	if err != nil {
		return err
	}
	defer up.Close()
	limit := storeLimit
	if *engine == "dir" {
		limit = 10 * storeLimit // there is no server that may be away
	}
	sm := session.NewManager(store, session.Options{Timeout: limit})
	up.Keep("keys", sm.Keys())
	up.Check("sessions", sm.Ready)
	ln, err := up.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	journal, err := testutil.OpenJournal("journal")
	if err != nil {
		return err
	}
	defer journal.Close()
	hs := &http.Server{Handler: tag(up.Status(), site(sm, journal))}
	web := drain.NewServer(hs, drain.Options{Grace: 10 * time.Second, Move: up.Move, Rebalance: up.Rebalance(), Hurry: up.Hurry()})
	return up.Run(ctx, func(ctx context.Context) error {
		fmt.Printf("serving at %s\n", ln.Addr())
		return web.Serve(ctx, ln)
	})
}

// open makes the store. The server of a store may be away.
func open(ctx context.Context, engine, source string) (session.Store, error) {
	switch engine {
	case "dir":
		return session.Dir(source), nil
	case "redis":
		client := redis.NewClient(&redis.Options{Addr: source, ContextTimeoutEnabled: true})
		return redisstore.New(client, redisstore.Options{})
	case "postgres":
		db, err := sql.Open("pgx", source)
		if err != nil {
			return nil, err
		}
		store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
		if err != nil {
			return nil, err
		}
		return store, store.Setup(ctx)
	}
	return nil, fmt.Errorf("no store %q", engine)
}

// bake gives a candidate its share in steps, if the upgrade is to be progressive.
func bake(ctx context.Context, c *upgrade.Candidate) error {
	if _, err := os.Stat(progressiveFile); err != nil {
		return nil
	}
	for _, share := range []float64{0.2, 0.5, 1} {
		if err := c.SetWeight(share); err != nil {
			return err
		}
		select {
		case <-time.After(stepTime):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// tag adds the process to each answer.
func tag(who upgrade.Status, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", who.Version)
		w.Header().Set("X-Generation", strconv.Itoa(who.Generation))
		w.Header().Set("X-Pid", strconv.Itoa(who.PID))
		next.ServeHTTP(w, r)
	})
}

// site has a page that counts in the session, and a page that needs no session. Both are behind the same Middleware.
func site(sm *session.Manager, journal *testutil.Journal) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/count", count)
	mux.Handle("/work", journal.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "done") })))
	return sm.Middleware(mux)
}

// count answers with the number of the visitor's counted requests, or 503 if the store is away.
func count(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), storeLimit)
	defer cancel()
	var n int
	err := session.Update(ctx, func(v *session.Values) error {
		n = 0
		_, err := v.Get("count", &n)
		n++
		return errors.Join(err, v.Put("count", n))
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprint(w, n)
}
