package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"iter"
	"time"

	"github.com/midair-go/midair/session"
)

const (
	// pruneEvery is the pause of a process between two removals, unless the first removal was full.
	pruneEvery = time.Minute
	// pruneRows is the most rows of one removal.
	pruneRows = 500
	// pruneWait is how long a call may wait for a removal.
	pruneWait = 500 * time.Millisecond
	// pageRows is how many records All reads at once.
	pageRows = 100
)

// Prune removes the records that expired more than a minute ago, in steps of 500, and returns the number of removed records, also
// together with an error. Calls of the other methods remove expired records too, so no program has to call Prune.
func (s *Store) Prune(ctx context.Context) (n int64, err error) {
	for {
		var step int64
		err := s.pool.try(ctx, "prune", func(*attempt) (err error) {
			step, err = s.prune(ctx)
			return err
		})
		n += step
		if err != nil || step < pruneRows {
			return n, err
		}
	}
}

func (s *Store) prune(ctx context.Context) (int64, error) {
	return s.pool.exec(ctx, stmtPrune, time.Now().Add(-pruneAge).UnixMilli(), pruneRows)
}

// maintain removes expired records now and then. The call of the user is done already, so errors are of no interest: a later call
// tries again.
func (s *Store) maintain(ctx context.Context) {
	now, at := time.Now(), s.pruneAt.Load()
	if now.UnixMilli() < at || !s.pruneAt.CompareAndSwap(at, now.Add(pruneEvery).UnixMilli()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pruneWait)
	defer cancel()
	var n int64
	err := s.pool.try(ctx, "prune", func(*attempt) (err error) {
		n, err = s.prune(ctx)
		return err
	})
	if err == nil && n >= pruneRows {
		s.pruneAt.Store(0)
	}
}

// All returns the records that have not expired, in an order without meaning. The records are read in pages by the primary key, so
// no transaction and no connection is held while the caller works. Of records that are created, changed or removed meanwhile, the
// caller may see the old or the new state. After an error the sequence ends.
func (s *Store) All(ctx context.Context) iter.Seq2[session.Record, error] {
	return func(yield func(session.Record, error) bool) {
		after := make([]byte, 32)
		for {
			var page []keyed
			err := s.pool.try(ctx, "read all", func(*attempt) (err error) {
				page, err = s.page(ctx, after)
				return err
			})
			if err != nil {
				yield(session.Record{}, err)
				return
			}
			for _, k := range page {
				if !bytes.Equal(k.key, secretKey) && time.Now().Before(k.Expires) && !yield(k.Record, nil) {
					return
				}
			}
			if len(page) < pageRows {
				return
			}
			after = page[len(page)-1].key
		}
	}
}

// keyed is a record with its key.
type keyed struct {
	key []byte
	session.Record
}

// page reads records whose keys come after one.
func (s *Store) page(ctx context.Context, after []byte) ([]keyed, error) {
	var page []keyed
	err := s.pool.with(ctx, stmtPage, func(stmt *sql.Stmt) error {
		page = nil
		rows, err := s.query(ctx, stmt, after)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k keyed
			var rev, expires int64
			if err := rows.Scan(&k.key, &k.Data, &rev, &expires); err != nil {
				return err
			}
			k.Rev, k.Expires = uint64(rev), time.UnixMilli(expires)
			page = append(page, k)
		}
		return rows.Err()
	})
	return page, err
}

func (s *Store) query(ctx context.Context, stmt *sql.Stmt, after []byte) (*sql.Rows, error) {
	if stmt != nil {
		return stmt.QueryContext(ctx, after, pageRows)
	}
	return s.pool.db.QueryContext(ctx, s.pool.texts[stmtPage], after, pageRows)
}
