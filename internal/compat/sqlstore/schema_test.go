package sqlstore

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/session/sqlstore"
)

// A tool that owns the schema runs the text of Schema, statement by statement, as often as it likes, and the store needs no more.
func TestSchemaIsAMigrationThatRunsTwice(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		db := p.db(t)
		p.table += "_tool"
		for range 2 {
			for text := range strings.SplitSeq(sqlstore.Schema(p.dialect, p.table), ";\n") {
				if text == "" {
					continue
				}
				if _, err := db.ExecContext(t.Context(), text); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
		}
		store := p.on(t, db)
		defer store.Close()
		wantServing(t, store)
	})
}

// The name of a table is quoted, so any identifier is safe, and other names are refused.
func TestNamesOfTables(t *testing.T) {
	for _, name := range []string{" ", "a b", "a;b", "a\"b", "a`b", "a.b.c", ".a", "a.", "1a", "ä", strings.Repeat("a", 51)} {
		if _, err := sqlstore.New(nil, sqlstore.SQLite, sqlstore.Options{Table: name}); err == nil {
			t.Errorf("the name %q was taken", name)
		}
		if text := sqlstore.Schema(sqlstore.SQLite, name); text != "" {
			t.Errorf("Schema of %q = %q", name, text)
		}
	}
	if _, err := sqlstore.New(nil, 0, sqlstore.Options{}); err == nil {
		t.Error("the dialect 0 was taken")
	}
	for _, name := range []string{"order", "Table", "_x1", strings.Repeat("a", 50)} {
		each(t, all, func(t *testing.T, e engine) {
			p := e.place(t)
			p.table = name
			p.setup(t)
			wantServing(t, p.open(t))
		})
	}
	t.Run("schema", func(t *testing.T) {
		p := postgres.place(t)
		p.server.SQL("CREATE SCHEMA IF NOT EXISTS web")
		p.table = "web.sessions"
		p.setup(t)
		wantServing(t, p.open(t))
		p = mariadb.place(t)
		p.table = "test.sessions"
		p.setup(t)
		wantServing(t, p.open(t))
		p = sqlite.place(t)
		p.table = "main.sessions"
		p.setup(t)
		wantServing(t, p.open(t))
	})
}

// A table that was dropped gives errors, and works again as soon as it is made again, with the same prepared statements.
func TestATableThatWasMadeAgainWorks(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		db := p.db(t)
		store, _ := fill(t, p.on(t, db))
		defer store.Close()
		wantServing(t, store)
		for range 2 {
			if _, err := db.ExecContext(t.Context(), "DROP TABLE "+p.table); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Load(soon(t, 10*time.Second), "a"); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Load without a table = %v", err)
			}
			if err := store.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantServing(t, store)
		}
	})
}

// A migration that changes the type of a column makes PostgreSQL refuse prepared statements. The store replaces them.
func TestAChangedColumnIsNoErrorForEver(t *testing.T) {
	p := postgres.place(t)
	db := p.db(t)
	db.SetMaxOpenConns(3)
	store, _ := fill(t, p.on(t, db))
	defer store.Close()
	idle(t, db, 3)
	for _, kind := range []string{"numeric", "bigint", "numeric"} {
		for range 5 {
			wantServing(t, store)
		}
		p.server.SQL("ALTER TABLE " + p.table + " ALTER COLUMN expires TYPE " + kind)
		for range 5 {
			wantServing(t, store)
		}
	}
}

// Calls that run while the store is closed, and later ones, work; no prepared statement is left in the server.
func TestCloseLeavesNoStatementAndFailsNoCall(t *testing.T) {
	statements := func(p place) string {
		_, n, _ := strings.Cut(p.server.SQL("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'"), "\t")
		return n
	}
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		db := p.db(t)
		before := ""
		if e.dialect == sqlstore.MySQL {
			before = statements(p)
		}
		for range 5 {
			store, _ := fill(t, p.on(t, db))
			var all sync.WaitGroup
			for w := range writers {
				all.Go(func() {
					id := strconv.Itoa(w)
					for range 20 {
						_, err := store.Create(context.Background(), id, nil, later())
						if err == nil {
							err = store.Delete(context.Background(), id)
						}
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			for range 2 {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			}
			all.Wait()
			wantServing(t, store)
			if err := store.Delete(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		if e.dialect == sqlstore.MySQL && statements(p) != before {
			t.Errorf("%s prepared statements in the server, %s before", statements(p), before)
		}
	})
}
