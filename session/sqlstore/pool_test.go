package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// A fake is a driver whose statements return what execute returns: how many rows were changed, or found.
type fake struct {
	execute    func(text string) (int64, error)
	open       atomic.Int32 // statements that are not closed
	prepared   atomic.Int32
	unprepared atomic.Int32
}

func (f *fake) Connect(context.Context) (driver.Conn, error) { return fakeConn{f}, nil }
func (f *fake) Driver() driver.Driver                        { return nil }

type fakeConn struct{ *fake }

func (c fakeConn) Prepare(text string) (driver.Stmt, error) {
	c.prepared.Add(1)
	c.open.Add(1)
	return fakeStmt{c.fake, text}, nil
}

func (c fakeConn) ExecContext(_ context.Context, text string, _ []driver.NamedValue) (driver.Result, error) {
	c.unprepared.Add(1)
	n, err := c.execute(text)
	return driver.RowsAffected(n), err
}

func (c fakeConn) Close() error              { return nil }
func (c fakeConn) Begin() (driver.Tx, error) { return nil, errors.ErrUnsupported }

type fakeStmt struct {
	*fake
	text string
}

func (s fakeStmt) Close() error {
	s.open.Add(-1)
	return nil
}

func (s fakeStmt) NumInput() int { return -1 }

func (s fakeStmt) Exec([]driver.Value) (driver.Result, error) {
	n, err := s.execute(s.text)
	return driver.RowsAffected(n), err
}

func (s fakeStmt) Query([]driver.Value) (driver.Rows, error) { return noRows{}, nil }

type noRows struct{}

func (noRows) Columns() []string         { return []string{"rev", "expires"} }
func (noRows) Close() error              { return nil }
func (noRows) Next([]driver.Value) error { return io.EOF }

// openFake makes a store on a fake driver. The store removes no expired records.
func openFake(t *testing.T, execute func(text string) (int64, error)) (*Store, *fake) {
	t.Helper()
	f := &fake{execute: execute}
	db := sql.OpenDB(f)
	t.Cleanup(func() { db.Close() })
	s, err := New(db, PostgreSQL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.pruneAt.Store(time.Now().Add(time.Hour).UnixMilli())
	return s, f
}

// A statement that Close has closed while a call was about to use it fails no call.
func TestAStatementThatWasClosedMeanwhileFailsNoCall(t *testing.T) {
	s, f := openFake(t, func(string) (int64, error) { return 1, nil })
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.pool.prepared[stmtDelete].Load().Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatalf("Delete with a closed statement = %v", err)
	}
	if f.unprepared.Load() != 1 {
		t.Fatalf("%d statements were sent by themselves, want 1", f.unprepared.Load())
	}
}

// A statement that the server refuses, because the table has changed, is replaced once, and Close closes all of them.
func TestAStaleStatementIsReplaced(t *testing.T) {
	var refuse atomic.Bool
	s, f := openFake(t, func(string) (int64, error) {
		if refuse.Swap(false) {
			return 0, &pgError{"0A000"}
		}
		return 1, nil
	})
	for range 3 {
		refuse.Store(true)
		for range 3 {
			if err := s.Delete(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := f.prepared.Load(); got != 4 {
		t.Errorf("%d statements were prepared, want one and three for those refused", got)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.open.Load(); got != 0 {
		t.Errorf("Close has left %d statements", got)
	}
	if err := s.Delete(t.Context(), "a"); err != nil || f.open.Load() != 0 {
		t.Errorf("Delete after Close = %v, with %d statements", err, f.open.Load())
	}
}

// A server that loses each connection gives an error after a few attempts, not one that the deadline has to end.
func TestAServerThatLosesEachConnectionIsGivenUp(t *testing.T) {
	attempts := 0
	s, _ := openFake(t, func(string) (int64, error) {
		attempts++
		return 0, io.ErrUnexpectedEOF
	})
	_, err := s.Swap(t.Context(), "a", 1, nil, time.Now().Add(time.Hour))
	if !errors.Is(err, io.ErrUnexpectedEOF) || attempts < 2 || attempts > 10 {
		t.Fatalf("Swap = %v after %d attempts", err, attempts)
	}
}

// A record that was removed after an answer was lost is not found: no Swap creates one.
func TestASwapOfARemovedRecordAfterALossIsNotFound(t *testing.T) {
	attempts := 0
	s, _ := openFake(t, func(string) (int64, error) {
		if attempts++; attempts == 1 {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, nil
	})
	if _, err := s.Swap(t.Context(), "a", 1, nil, time.Now().Add(time.Hour)); !errors.Is(err, session.ErrNotFound) {
		t.Fatalf("Swap = %v", err)
	}
}
