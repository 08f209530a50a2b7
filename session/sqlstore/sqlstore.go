package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"

	"github.com/midair-go/midair/session"
)

// Options of a [Store]. The zero value works.
type Options struct {
	// Table is the name of the table as the database keeps it, of at most 50 bytes, with or without a schema before it:
	// "midair_sessions", "web.sessions". Names are quoted. Default: "midair_sessions".
	Table string
	// Unprepared sends each statement by itself, instead of preparing it once for each connection. Set
	// Unprepared for a pooler that gives each statement another connection, such as PgBouncer in transaction mode before 1.21.
	// The driver may prepare statements all the same: pgx needs default_query_exec_mode=exec then. Default: false.
	Unprepared bool
}

// A Store keeps sessions in a table. [New] makes a Store.
type Store struct {
	pool    pool
	table   table
	pruneAt atomic.Int64 // when the next call removes expired records, in Unix milliseconds
}

var _ session.Store = (*Store)(nil)

// New makes a Store of a table in db, and does not touch the database: [Store.Setup] creates the table. The error is not nil if the
// dialect or the name of the table is not valid. The pool db stays the caller's, and has to be open as long as the Store is used.
func New(db *sql.DB, d Dialect, opts Options) (*Store, error) {
	if d < PostgreSQL || d > SQLite {
		return nil, fmt.Errorf("sqlstore: unknown dialect %d", d)
	}
	t, err := parseTable(opts.Table)
	if err != nil {
		return nil, err
	}
	s := &Store{table: t, pool: pool{db: db, dialect: d, texts: d.statements(t)}}
	s.pool.unprepared.Store(opts.Unprepared)
	return s, nil
}

// Setup creates the table and the index unless they exist, by the statements of [Schema]. Any number of processes may call it at
// the same time.
func (s *Store) Setup(ctx context.Context) error {
	for _, text := range s.pool.dialect.schema(s.table) {
		err := s.pool.try(ctx, "set up", func(*attempt) error {
			_, err := s.pool.db.ExecContext(ctx, text)
			if s.pool.dialect.otherSetup(err) {
				return again{err}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Close closes the prepared statements of the Store, and not the pool. Close waits for the calls that are
// running. Later calls work without prepared statements. Close may be called twice.
func (s *Store) Close() error { return s.pool.close() }
