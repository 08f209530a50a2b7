// Package sqlstore keeps sessions in a table of PostgreSQL, MariaDB, MySQL or SQLite.
//
//	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
//	...
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
//	...
//	err = store.Setup(ctx) // or give sqlstore.Schema to your migration tool
//	...
//	defer store.Close()
//	sm := session.NewManager(store, session.Options{})
//
// It needs database/sql alone: the program chooses the driver and opens the pool, which may serve other tables too. The package
// is tried with github.com/jackc/pgx/v5, github.com/go-sql-driver/mysql and modernc.org/sqlite.
//
// # What a call may cost
//
// A Load is one statement. Create, Swap, Touch and Delete are one statement too, as a rule; a second statement follows if a record
// was not as expected. No transaction has several statements, so no lock outlives a statement. Every call ends with its context,
// whether the server is suspended, the pool is exhausted, the network loses packets or another transaction holds a lock; SQLite
// needs a short busy_timeout for this, see [SQLite]. Pauses between attempts are at most 50 milliseconds.
//
// Deadlocks, serialization failures, lock timeouts, a busy SQLite and a server with too many connections are tried again until
// the context ends. A statement whose connection was lost is sent again on another connection: revisions are random numbers that
// the store chooses, so a second attempt recognises the record of the first attempt, and no change is made twice. If the server
// cannot be reached at all, the error comes at once. All errors wrap the error of the driver, and the error of the context if the
// context has ended.
//
// If another process replaced the record after an answer was lost, nobody can find out whether the first attempt counted: Swap
// and Create return the error of the lost connection then, and not [session.ErrConflict].
//
// # Expired records
//
// Expired records do not exist for the methods of [session.Store]. Every call may remove some from the table: at most 500
// at a time, and at most once a minute in a process unless there are more. A record is removed when the clock of this process and
// the clock of the server both say that the record expired more than a minute ago, so a host with a wrong clock removes no
// record that lives. A call waits at most half a second for the removal, and never fails because of it. [Store.Prune] removes all
// expired records, for a job of your own.
//
// # Read-only servers and failover
//
// On a read-only server Load works, and writes return the error of the driver. Reads must go to the server of the writes: a
// replica that lags behind breaks the promise of a Load to see the last Swap. Where several hosts may be the primary, let the
// driver find the primary: target_session_attrs=read-write for pgx, rejectReadOnly=true for go-sql-driver/mysql, and set
// SetConnMaxLifetime of the pool.
//
// A failover to a server without the last writes loses these writes and nothing else: revisions of the lost writes never come
// back, so no Swap from before the failover overwrites a record of another writer.
//
// # Errors of drivers
//
// Codes are found without the types of drivers: a method SQLState() string (pgx, lib/pq), a field Number (go-sql-driver/mysql),
// a method or field Code (modernc.org/sqlite, ncruces/go-sqlite3, mattn/go-sqlite3), anywhere in the chain of an error. With
// PostgreSQL and MySQL an error without a code counts as a lost connection.
//
// # Goroutines
//
// A [Store] may be used from any number of goroutines and processes. The package starts no goroutine.
package sqlstore
