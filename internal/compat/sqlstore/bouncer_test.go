package sqlstore

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session/sqlstore"
)

// Behind a PgBouncer in transaction mode, where no prepared statement lasts, a store with Unprepared works.
func TestAPoolerInTransactionModeWorks(t *testing.T) {
	p := postgres.place(t)
	bouncer := servers.StartPgBouncer(t, p.server.(*servers.Postgres))
	p.addr = bouncer.Addr
	p.data = p.dsn(t, p.addr) + "&default_query_exec_mode=exec"
	p.options = sqlstore.Options{Unprepared: true}
	store := p.open(t)
	if _, err := store.Create(t.Context(), "n", []byte("0"), later()); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	const each = 20
	for range writers {
		all.Go(func() {
			for range each {
				if err := increment(context.Background(), store, "n"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	rec, err := store.Load(t.Context(), "n")
	if err != nil || string(rec.Data) != strconv.Itoa(writers*each) {
		t.Fatalf("counted %q, %v", rec.Data, err)
	}
}
