package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sqlstore"
)

// limit is the deadline of a call while something is wrong, and slack is how late the call may return on a busy machine.
const (
	limit = 300 * time.Millisecond
	slack = 2 * time.Second
)

// A call is a use of a store.
type call struct {
	name string
	do   func(ctx context.Context) error
}

// calls are all uses of a store, of which those of writes wait for locks.
func calls(store *sqlstore.Store, rev uint64) (writes, reads []call) {
	writes = []call{
		{"Swap", func(ctx context.Context) error {
			_, err := store.Swap(ctx, "a", rev, []byte("x"), later())
			return err
		}},
		{"Touch", func(ctx context.Context) error { return store.Touch(ctx, "a", later().Add(time.Minute)) }},
		{"Delete", func(ctx context.Context) error { return store.Delete(ctx, "a") }},
	}
	reads = []call{
		{"Load", func(ctx context.Context) error {
			_, err := store.Load(ctx, "a")
			return err
		}},
		{"All", func(ctx context.Context) error {
			for _, err := range store.All(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"Create", func(ctx context.Context) error {
			_, err := store.Create(ctx, "b", []byte("x"), later())
			return err
		}},
		{"Prune", func(ctx context.Context) error {
			_, err := store.Prune(ctx)
			return err
		}},
		{"Secret", func(ctx context.Context) error {
			_, err := store.Secret(ctx)
			return err
		}},
		{"Setup", store.Setup},
	}
	return writes, reads
}

// wantDeadline checks that each call ends with its context, and says so.
func wantDeadline(t *testing.T, list []call) {
	t.Helper()
	for _, c := range list {
		begin := time.Now()
		err := c.do(soon(t, limit))
		if took := time.Since(begin); took > limit+slack {
			t.Errorf("%s took %v with a deadline of %v", c.name, took, limit)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s = %v, want one that wraps context.DeadlineExceeded", c.name, err)
		}
	}
}

// begin makes a store with one record and idle connections.
func begin(t *testing.T, p place) (*sqlstore.Store, uint64) {
	t.Helper()
	return fill(t, p.open(t))
}

func fill(t *testing.T, store *sqlstore.Store) (*sqlstore.Store, uint64) {
	t.Helper()
	rev, err := store.Create(t.Context(), "a", []byte("data"), later())
	if err == nil {
		err = store.Touch(t.Context(), "a", later())
	}
	if err != nil {
		t.Fatal(err)
	}
	return store, rev
}

// wantServing checks that the store works, after whatever happened.
func wantServing(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	ctx := soon(t, 20*time.Second)
	if err := store.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	rev, err := store.Create(ctx, "a", []byte("again"), later())
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := store.Load(ctx, "a"); err != nil || string(rec.Data) != "again" || rec.Rev != rev {
		t.Fatalf("Load = %q, %v", rec.Data, err)
	}
}

var onServers = []engine{postgres, mariadb}

// A suspended server keeps its connections and answers nothing; every call ends with its context all the same.
func TestCallsOnASuspendedServerEndWithTheirContext(t *testing.T) {
	each(t, onServers, func(t *testing.T, e engine) {
		p := e.place(t)
		store, rev := begin(t, p)
		p.server.Suspend()
		defer p.server.Continue() // a server that goes on may be continued
		writes, reads := calls(store, rev)
		wantDeadline(t, append(writes, reads...))
		p.server.Continue()
		wantServing(t, store)
	})
}

// A network that loses all packets looks like a server that answers nothing.
func TestCallsOnALossyNetworkEndWithTheirContext(t *testing.T) {
	each(t, onServers, func(t *testing.T, e engine) {
		p, x := e.place(t).through(t)
		store, rev := begin(t, p)
		x.Freeze()
		writes, reads := calls(store, rev)
		wantDeadline(t, append(writes, reads...))
		x.Thaw()
		wantServing(t, store)
	})
}

// A pool without a free connection makes no call wait longer than its context.
func TestCallsOnAnExhaustedPoolEndWithTheirContext(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		db := p.db(t)
		db.SetMaxOpenConns(1)
		store, rev := fill(t, p.on(t, db))
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		writes, reads := calls(store, rev)
		wantDeadline(t, append(writes, reads...))
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		wantServing(t, store)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A transaction of another program that holds the row, or in SQLite the file, makes no write wait longer than its context, and a
// Load not at all.
func TestCallsOnALockedRecordEndWithTheirContext(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		store, rev := begin(t, p)
		unlock := p.hold(t)
		writes, reads := calls(store, rev)
		wantDeadline(t, writes)
		if err := reads[0].do(soon(t, limit+slack)); err != nil {
			t.Errorf("Load of a locked record: %v", err)
		}
		unlock()
		wantServing(t, store)
	})
}

// hold locks all rows of the table.
func (p place) hold(t *testing.T) (unlock func()) {
	t.Helper()
	conn, err := p.db(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run := func(text string) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	if p.lock == "" {
		run("BEGIN IMMEDIATE")
	} else {
		run("BEGIN")
		run(fmt.Sprintf(p.lock, p.table))
	}
	return func() {
		run("ROLLBACK")
		conn.Close()
	}
}

// A server that is not there gives an error at once, and serves again as soon as it is back: its idle connections, all of which are
// dead, cost no call.
func TestADeadServerGivesAnErrorAtOnce(t *testing.T) {
	each(t, onServers, func(t *testing.T, e engine) {
		p := e.own(t)
		db := p.db(t)
		store, rev := fill(t, p.on(t, db))
		idle(t, db, 8)
		p.server.Kill()
		writes, reads := calls(store, rev)
		for _, c := range append(writes, reads...) {
			begin := time.Now()
			err := c.do(soon(t, 20*time.Second))
			if took := time.Since(begin); err == nil || took > 5*time.Second {
				t.Errorf("%s = %v after %v", c.name, err, took)
			}
		}
		p.server.Start()
		wantServing(t, store)

		idle(t, db, 8)
		p.server.Kill()
		p.server.Start()
		failed := 0
		for range 20 {
			if _, err := store.Load(soon(t, 10*time.Second), "a"); err != nil {
				t.Log(err)
				failed++
			}
		}
		t.Logf("after a kill and a start, with 8 dead connections in the pool, %d of 20 calls failed", failed)
		if failed > 0 {
			t.Errorf("%d calls failed on dead connections", failed)
		}
		store.Close() // an error means that a connection was dead
	})
}

// idle fills the pool with n idle connections.
func idle(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	var conns []*sql.Conn
	for range n {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.Close()
	}
}

// On a server that takes no writes sessions are read, and each write returns the error of the driver.
func TestAReadOnlyServerServesLoads(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		_, rev := begin(t, p)
		switch e.dialect {
		case sqlstore.PostgreSQL:
			p.data += "&default_transaction_read_only=on"
		case sqlstore.MySQL:
			p.server.SQL("SET GLOBAL read_only = ON")
			defer p.server.SQL("SET GLOBAL read_only = OFF")
		default:
			p.data += "&mode=ro"
		}
		store := p.open(t)
		ctx := soon(t, 20*time.Second)
		if rec, err := store.Load(ctx, "a"); err != nil || string(rec.Data) != "data" {
			t.Fatalf("Load = %q, %v", rec.Data, err)
		}
		writes, reads := calls(store, rev)
		for _, c := range append(writes, reads[2]) {
			err := c.do(ctx)
			if err == nil || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) || ctx.Err() != nil {
				t.Errorf("%s = %v", c.name, err)
			}
			t.Logf("%s = %v", c.name, err)
		}
		if rec, err := store.Load(ctx, "a"); err != nil || string(rec.Data) != "data" || rec.Rev != rev {
			t.Fatalf("Load after the writes = %q, %v", rec.Data, err)
		}
	})
}
