package sqlstore

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session"
)

// A tally is what one writer has counted by compare-and-swap.
type tally struct {
	acked   int // Swaps that have returned nil
	unknown int // Swaps that have returned an error, and may have been made
	failed  int // calls that have returned an error
}

// write counts up in a record until stop, and checks at each step that what was acknowledged is there.
func write(t *testing.T, store session.Store, id string, stop *atomic.Bool) (n tally) {
	for !stop.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		rec, err := store.Load(ctx, id)
		if err == nil {
			at, _ := strconv.Atoi(string(rec.Data))
			if at < n.acked || at > n.acked+n.unknown {
				t.Errorf("%s is at %d after %+v", id, at, n)
				cancel()
				return n
			}
			_, err = store.Swap(ctx, id, rec.Rev, []byte(strconv.Itoa(at+1)), later())
			if n.unknown > 0 && errors.Is(err, session.ErrConflict) {
				err = errLate
			}
			n.acked, n.unknown = at, 0
			if err == nil {
				n.acked++
			} else {
				n.unknown++
			}
		}
		if err != nil {
			n.failed++
			<-time.After(5 * time.Millisecond) // as a client that comes back
			if errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s: %v", id, err)
			}
		}
		cancel()
	}
	return n
}

// errLate is the error of a Swap that met an earlier one of the same writer: the server was suspended with its statement, and has made
// it after the writer had given up.
var errLate = errors.New("an earlier write was made late")

// load runs writers, each with a record of its own, until the result is called.
func load(t *testing.T, store session.Store) (stop func() []tally) {
	var all sync.WaitGroup
	var end atomic.Bool
	tallies := make([]tally, writers)
	for w := range tallies {
		id := "writer " + strconv.Itoa(w)
		if _, err := store.Create(t.Context(), id, []byte("0"), later()); err != nil {
			t.Fatal(err)
		}
		all.Go(func() { tallies[w] = write(t, store, id, &end) })
	}
	return func() []tally {
		end.Store(true)
		all.Wait()
		return tallies
	}
}

// wantProgress waits until a Swap works, as it did before.
func wantProgress(t *testing.T, store session.Store, id string) {
	t.Helper()
	at := func() string {
		rec, err := store.Load(soon(t, time.Second), id)
		if err != nil {
			return ""
		}
		return string(rec.Data)
	}
	first := ""
	testutil.Until(t, 30*time.Second, "the first counts", func() bool { first = at(); return first != "" })
	testutil.Until(t, 30*time.Second, "progress", func() bool { now := at(); return now != "" && now != first })
}

// A server that is killed in the middle of load and started again has every Swap that was acknowledged, and none twice.
func TestAKilledServerKeepsWhatItHasAcknowledged(t *testing.T) {
	each(t, onServers, func(t *testing.T, e engine) {
		p := e.own(t)
		store := p.open(t)
		stop := load(t, store)
		for range 2 {
			wantProgress(t, store, "writer 0")
			p.server.Kill()
			p.server.Start()
		}
		wantProgress(t, store, "writer 0")
		for w, n := range stop() {
			rec, err := store.Load(t.Context(), "writer "+strconv.Itoa(w))
			at, _ := strconv.Atoi(string(rec.Data))
			if err != nil || at < n.acked || at > n.acked+n.unknown {
				t.Errorf("writer %d is at %q, %v after %+v", w, rec.Data, err, n)
			}
			t.Logf("writer %d: %d swaps, %d calls failed in two kills", w, n.acked, n.failed)
		}
	})
}

// When a standby has taken over, no call fails because of the connections to the old primary that are left in the pool.
func TestAfterAFailoverNoCallFails(t *testing.T) {
	primary := servers.StartPostgres(t, "fsync=off")
	p := place{engine: postgres, addr: primary.Addr, table: "midair_sessions"}
	p.data = p.dsn(t, p.addr)
	p.setup(t)
	standby := primary.Standby("fsync=off", "wal_retrieve_retry_interval=100ms")
	primary.SQL("ALTER SYSTEM SET synchronous_standby_names = '*'") // what is acknowledged is on the standby
	primary.SQL("SELECT pg_reload_conf()")
	p.data = strings.Replace(p.data, primary.Addr, primary.Addr+","+standby.Addr, 1) + "&target_session_attrs=read-write"
	db := p.db(t)
	store, _ := fill(t, p.on(t, db))
	defer store.Close()
	stop := load(t, store)
	wantProgress(t, store, "writer 0")
	idle(t, db, 8)
	primary.Kill()
	standby.Promote()
	failed := 0
	for range 20 {
		if _, err := store.Load(soon(t, 10*time.Second), "a"); err != nil {
			failed++
			t.Error(err)
		}
	}
	wantProgress(t, store, "writer 0")
	during := 0
	for _, n := range stop() {
		during += n.failed
	}
	t.Logf("%d calls failed between the end of the primary and the promotion, %d afterwards", during, failed)
}
