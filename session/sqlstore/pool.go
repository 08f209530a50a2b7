package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/session"
)

const (
	// maxPause is the longest pause between two attempts.
	maxPause = 50 * time.Millisecond
	// lossLimit is how many lost connections a call endures, beside the connections that were idle at the first loss.
	lossLimit = 3
)

// A pool runs the statements of a Store.
type pool struct {
	db         *sql.DB
	dialect    Dialect
	texts      [statements]string
	prepared   [statements]atomic.Pointer[sql.Stmt]
	unprepared atomic.Bool  // also after Close
	changes    atomic.Int64 // how often a statement has become useless

	mu    sync.Mutex
	stale []*sql.Stmt // to be closed by close: closing a statement waits for the calls that use it
}

// close closes the prepared statements, and not db.
func (p *pool) close() error {
	p.unprepared.Store(true)
	p.mu.Lock()
	closing := p.stale
	p.stale = nil
	p.mu.Unlock()
	for i := range p.prepared {
		if stmt := p.prepared[i].Swap(nil); stmt != nil {
			closing = append(closing, stmt)
		}
	}
	var all []error
	for _, stmt := range closing {
		all = append(all, stmt.Close())
	}
	return errors.Join(all...)
}

// An attempt has the results of earlier attempts of the same call.
type attempt struct {
	losses int
	lost   error // the error of the last lost connection: the statement may have been executed
}

// again is the error of an attempt that has changed nothing: the next attempt follows after a pause.
type again struct{ error }

func (a again) Unwrap() error { return a.error }

// unknown is the error of a call whose statement may have been executed: nothing can find out.
type unknown struct{ error }

func (u unknown) Unwrap() error { return u.error }

// errVanished is why a call is made again whose record was removed or changed between two statements.
var errVanished = errors.New("the record changes all the time")

// try calls fn until fn returns an answer, or an error that another attempt does not change.
func (p *pool) try(ctx context.Context, what string, fn func(*attempt) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: %s: %w", what, err)
	}
	var a attempt
	limit := 0
	for n := 0; ; n++ {
		err := fn(&a)
		switch {
		case err == nil || err == session.ErrNotFound || err == session.ErrConflict:
			return err
		case ctx.Err() != nil:
			return p.ended(ctx, what, err)
		case errors.As(err, new(again)) || p.dialect.transient(err):
			if !pause(ctx, n) {
				return p.ended(ctx, what, err)
			}
			continue
		case errors.As(err, new(unknown)) || !p.dialect.lost(err):
			return fmt.Errorf("sqlstore: %s: %w", what, err)
		}
		if a.losses == 0 {
			limit = lossLimit + p.db.Stats().Idle // each of them may be dead as well
		}
		a.losses, a.lost = a.losses+1, err
		if a.losses >= limit {
			return fmt.Errorf("sqlstore: %s: %w", what, err)
		}
	}
}

// ended is the error of a call whose context has ended.
func (p *pool) ended(ctx context.Context, what string, err error) error {
	if errors.Is(err, ctx.Err()) {
		return fmt.Errorf("sqlstore: %s: %w", what, err)
	}
	return fmt.Errorf("sqlstore: %s: %w: %w", what, ctx.Err(), err)
}

// pause waits before attempt n+1, and reports whether the context goes on.
func pause(ctx context.Context, n int) bool {
	longest := min(maxPause, time.Millisecond<<min(n, 10))
	timer := time.NewTimer(longest/2 + rand.N(longest/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// exec executes a statement and returns how many rows it has changed.
func (p *pool) exec(ctx context.Context, which int, args ...any) (int64, error) {
	var res sql.Result
	err := p.with(ctx, which, func(stmt *sql.Stmt) (err error) {
		if stmt != nil {
			res, err = stmt.ExecContext(ctx, args...)
		} else {
			res, err = p.db.ExecContext(ctx, p.text(which), args...)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row reads the first row of a statement. The error is ErrNotFound if there is no row.
func (p *pool) row(ctx context.Context, which int, id []byte, dest ...any) error {
	err := p.with(ctx, which, func(stmt *sql.Stmt) error {
		if stmt != nil {
			return stmt.QueryRowContext(ctx, id).Scan(dest...)
		}
		return p.db.QueryRowContext(ctx, p.text(which), id).Scan(dest...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return session.ErrNotFound
	}
	return err
}

// with calls fn with the prepared statement, or with nil if statements are not prepared. A statement that has become useless,
// because the table was made again, is put aside, and a later call prepares another. A useless statement was not executed.
func (p *pool) with(ctx context.Context, which int, fn func(*sql.Stmt) error) error {
	stmt, err := p.statement(ctx, which)
	if err != nil {
		return err
	}
	err = fn(stmt)
	if err != nil && err.Error() == statementClosed || p.dialect.stale(err) {
		p.putAside(which, stmt)
		err = fn(nil)
	}
	for left := p.db.Stats().OpenConnections; left > 0 && p.dialect.stale(err); left-- {
		p.changes.Add(1)
		err = fn(nil)
	}
	return err
}

func (p *pool) putAside(which int, stmt *sql.Stmt) {
	if stmt != nil && p.prepared[which].CompareAndSwap(stmt, nil) {
		p.changes.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stale = append(p.stale, stmt)
	}
}

// text is that of a statement. It changes when a statement was put aside: pgx finds a statement by its text, and would take the
// useless one again, which is closed later.
func (p *pool) text(which int) string {
	if n := p.changes.Load(); n > 0 {
		return fmt.Sprintf("%s /* %d */", p.texts[which], n)
	}
	return p.texts[which]
}

// statementClosed is the text of an error of database/sql without a name.
const statementClosed = "sql: statement is closed"

func (p *pool) statement(ctx context.Context, which int) (*sql.Stmt, error) {
	if p.unprepared.Load() {
		return nil, nil
	}
	at := &p.prepared[which]
	if stmt := at.Load(); stmt != nil {
		return stmt, nil
	}
	stmt, err := p.db.PrepareContext(ctx, p.text(which))
	if err != nil {
		return nil, err
	}
	if !at.CompareAndSwap(nil, stmt) { // another call was first
		_ = stmt.Close()
		return at.Load(), nil
	}
	if p.unprepared.Load() && at.CompareAndSwap(stmt, nil) { // Close came meanwhile
		return nil, stmt.Close()
	}
	return stmt, nil
}
