package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sqlstore"
)

// expired puts n records into the table that expired two minutes ago.
func (p place) expired(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	literal := "x'%x'"
	if p.dialect == sqlstore.PostgreSQL {
		literal = "decode('%x', 'hex')"
	}
	expires := time.Now().Add(-2 * time.Minute).UnixMilli()
	for from := 0; from < n; from += 1000 {
		var rows []string
		for i := from; i < min(n, from+1000); i++ {
			rows = append(rows, fmt.Sprintf("("+literal+", 1, %d, "+literal+")", sha256.Sum256([]byte(strconv.Itoa(i))), expires, "data"))
		}
		text := "INSERT INTO " + p.table + " (id, rev, expires, data) VALUES " + strings.Join(rows, ", ")
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
}

func (p place) rows(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+p.table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Ten thousand expired records go while others write, without an error and without any loss; what expired a moment ago stays, for
// hosts whose clock is late.
func TestExpiredRecordsGoWhileWritersGoOn(t *testing.T) {
	const expired, swaps = 10_000, 40
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		db := p.db(t)
		p.expired(t, db, expired)
		store := p.on(t, db)
		defer store.Close()
		if _, err := store.Create(t.Context(), "recent", nil, time.Now().Add(-10*time.Second)); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var slowest [writers]time.Duration
		for w := range writers {
			id := "writer " + strconv.Itoa(w)
			if _, err := store.Create(t.Context(), id, []byte("0"), later()); err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				for range swaps {
					begin := time.Now()
					if err := increment(context.Background(), store, id); err != nil {
						t.Errorf("increment: %v", err)
					}
					slowest[w] = max(slowest[w], time.Since(begin))
				}
			})
		}
		all.Wait()
		// Each call removes 500 records at most, and none while another call does so. If the writers were done first, the next calls
		// remove the rest.
		for range expired / 500 {
			if _, err := store.Load(t.Context(), "writer 0"); err != nil {
				t.Fatal(err)
			}
		}
		if n := p.rows(t, db); n != writers+1 {
			t.Errorf("%d records are left, want %d", n, writers+1)
		}
		for w := range writers {
			rec, err := store.Load(t.Context(), "writer "+strconv.Itoa(w))
			if err != nil || string(rec.Data) != strconv.Itoa(swaps) {
				t.Errorf("writer %d has counted %q, %v", w, rec.Data, err)
			}
		}
		t.Logf("slowest Load and Swap of each writer: %v", slowest)
	})
}

// Expired records go while nobody writes, by Loads of anything.
func TestExpiredRecordsGoWhileNobodyWrites(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		db := p.db(t)
		p.expired(t, db, 1700)
		store := p.on(t, db)
		defer store.Close()
		for range 4 {
			if _, err := store.Load(t.Context(), "nobody"); err != session.ErrNotFound {
				t.Fatal(err)
			}
		}
		if n := p.rows(t, db); n != 0 {
			t.Fatalf("%d expired records are left", n)
		}
		p.expired(t, db, 100)
		if _, err := store.Load(t.Context(), "nobody"); err != session.ErrNotFound {
			t.Fatal(err)
		}
		if n := p.rows(t, db); n != 100 {
			t.Fatalf("%d records: a call has removed records within a minute of the last removal", n)
		}
		p.expired2(t, db)
		if n, err := store.Prune(t.Context()); n != 1300 || err != nil {
			t.Fatalf("Prune = %d, %v; want 1300", n, err)
		}
	})
}

// expired2 adds 1,200 more after the first hundred.
func (p place) expired2(t *testing.T, db *sql.DB) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), "DELETE FROM "+p.table); err != nil {
		t.Fatal(err)
	}
	p.expired(t, db, 1300)
}

// A removal that has to wait for a lock fails no call, and delays it by half a second at most.
func TestABlockedRemovalFailsNoCall(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		db := p.db(t)
		p.expired(t, db, 10)
		unlock := p.hold(t)
		defer unlock()
		store := p.on(t, db)
		defer store.Close()
		begin := time.Now()
		if _, err := store.Load(soon(t, 20*time.Second), "nobody"); err != session.ErrNotFound {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 500*time.Millisecond+slack {
			t.Fatalf("Load took %v", took)
		}
	})
}

// A clock that is wrong removes nothing that lives, be it the clock of this host or that of the server.
func TestAWrongClockRemovesNothing(t *testing.T) {
	ago := time.Now().Add(-time.Hour)
	t.Run("PostgreSQL", func(t *testing.T) {
		p := postgres.place(t)
		p.server.SQL("CREATE SCHEMA IF NOT EXISTS late")
		p.server.SQL("CREATE OR REPLACE FUNCTION late.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.now() - interval ''1 hour'''")
		p.data += "&search_path=late,pg_catalog,public"
		wantNothingPruned(t, p)
	})
	t.Run("MariaDB", func(t *testing.T) {
		p := mariadb.place(t)
		p.data += "?timestamp=" + strconv.FormatInt(ago.Unix(), 10)
		wantNothingPruned(t, p)
	})
	t.Run("MariaDB ahead", func(t *testing.T) {
		p := mariadb.place(t)
		p.data += "?timestamp=" + strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10)
		store, _ := begin(t, p)
		if n, err := store.Prune(t.Context()); n != 0 || err != nil {
			t.Fatalf("Prune = %d, %v", n, err)
		}
		wantServing(t, store)
	})
}

func wantNothingPruned(t *testing.T, p place) {
	t.Helper()
	db := p.db(t)
	p.expired(t, db, 10)
	store := p.on(t, db)
	defer store.Close()
	if n, err := store.Prune(t.Context()); n != 0 || err != nil {
		t.Fatalf("Prune = %d, %v: for the server nothing has expired", n, err)
	}
}
