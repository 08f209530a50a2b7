package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sqlstore"
)

// env is what another process needs to open the same table.
func (p place) env() []string {
	return []string{"SQL_DRIVER=" + p.driver, "SQL_DIALECT=" + strconv.Itoa(int(p.dialect)), "SQL_DSN=" + p.data, "SQL_TABLE=" + p.table}
}

// openRole opens the store that the environment describes, in another process.
func openRole() (*sqlstore.Store, *sql.DB, error) {
	dialect, err := strconv.Atoi(os.Getenv("SQL_DIALECT"))
	if err != nil {
		return nil, nil, err
	}
	db, err := sql.Open(os.Getenv("SQL_DRIVER"), os.Getenv("SQL_DSN"))
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxIdleConns(10)
	store, err := sqlstore.New(db, sqlstore.Dialect(dialect), sqlstore.Options{Table: os.Getenv("SQL_TABLE")})
	return store, db, err
}

func openOther() (session.Store, error) {
	store, _, err := openRole()
	return store, err
}

// increment adds one to the number in a record, however often it takes.
func increment(ctx context.Context, store session.Store, id string) error {
	for {
		rec, err := store.Load(ctx, id)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(rec.Data))
		if err != nil {
			return err
		}
		_, err = store.Swap(ctx, id, rec.Rev, []byte(strconv.Itoa(n+1)), later())
		if !errors.Is(err, session.ErrConflict) {
			return err
		}
	}
}

// countRole increments the record "n" as often as its argument says, from four goroutines.
func countRole() int {
	store, db, err := openRole()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer db.Close()
	defer store.Close()
	n, _ := strconv.Atoi(os.Args[1])
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	failed := make(chan error, writers)
	begin := time.Now()
	for range writers {
		go func() { // ends when it has counted
			var err error
			for i := 0; i < n/writers && err == nil; i++ {
				err = increment(ctx, store, "n")
			}
			failed <- err
		}()
	}
	for range writers {
		err = errors.Join(err, <-failed)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Printf("per second: %.0f\n", float64(n)/time.Since(begin).Seconds())
	return 0
}

const writers = 4

// setupRole creates the table.
func setupRole() int {
	store, db, err := openRole()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := store.Setup(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func wantExit(t *testing.T, procs []*testutil.Proc) {
	t.Helper()
	for _, p := range procs {
		if code, err := p.Wait(time.Minute); code != 0 || err != nil {
			t.Fatalf("a process ended with %d, %v:\n%s", code, err, p.Output())
		}
	}
}

// No update of two processes that overlap is lost.
func TestNoUpdateOfTwoProcessesIsLost(t *testing.T) {
	const n = 500
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		store := p.open(t)
		if _, err := store.Create(t.Context(), "n", []byte("0"), later()); err != nil {
			t.Fatal(err)
		}
		var procs []*testutil.Proc
		for range 2 {
			procs = append(procs, testutil.Start(t, "count", testutil.Cfg{Env: p.env(), Args: []string{strconv.Itoa(n)}}))
		}
		wantExit(t, procs)
		rec, err := store.Load(t.Context(), "n")
		if err != nil || string(rec.Data) != strconv.Itoa(2*n) {
			t.Fatalf("counted %s, %v; want %d", rec.Data, err, 2*n)
		}
		t.Log(procs[0].Output(), procs[1].Output())
	})
}

// Any number of processes may set up the table at the same time, as the instances of a new version do.
func TestProcessesSetUpTheTableTogether(t *testing.T) {
	each(t, all, func(t *testing.T, e engine) {
		p := e.place(t)
		p.table += "_new"
		var procs []*testutil.Proc
		for range 4 {
			procs = append(procs, testutil.Start(t, "setup", testutil.Cfg{Env: p.env()}))
		}
		wantExit(t, procs)
		if _, err := p.open(t).Create(t.Context(), "a", nil, later()); err != nil {
			t.Fatal(err)
		}
	})
}
