package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session/sqlstore"
)

// A server is what tests do with PostgreSQL and MariaDB alike.
type server interface {
	SQL(text string) string
	Start()
	Kill()
	Restart()
	Suspend()
	Continue()
}

// An engine is a database, with the driver and the way to open it.
type engine struct {
	name    string
	driver  string
	dialect sqlstore.Dialect
	dsn     func(t testing.TB, addr string) string
	shared  func(t testing.TB) (server, string) // the server of all tests and its address; nil for SQLite
	durable func(t testing.TB) (server, string) // the same with durable settings; tests kill it, and start it again
	lock    string                              // locks all rows of table %s in a transaction
	options sqlstore.Options
}

// A once is a server that the first test starts which needs it, and that lasts until all tests are over.
type once struct {
	start  func(t testing.TB) (server, string)
	mu     sync.Mutex
	server server
	addr   string
}

func (o *once) get(t testing.TB) (server, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server == nil {
		o.server, o.addr = o.start(testutil.Lasting(t))
	}
	return o.server, o.addr
}

func aPostgres(settings ...string) *once {
	return &once{start: func(t testing.TB) (server, string) {
		p := servers.StartPostgres(t, settings...)
		return p, p.Addr
	}}
}

func aMariaDB(settings ...string) *once {
	return &once{start: func(t testing.TB) (server, string) {
		m := servers.StartMariaDB(t, settings...)
		return m, m.Addr
	}}
}

const sqliteOptions = "?_pragma=busy_timeout(20)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"

var (
	sqlite = engine{
		name: "SQLite", driver: "sqlite", dialect: sqlstore.SQLite,
		dsn: func(t testing.TB, _ string) string {
			return "file:" + filepath.Join(t.TempDir(), "sessions.db") + sqliteOptions
		},
	}
	postgres = engine{
		name: "PostgreSQL", driver: "pgx", dialect: sqlstore.PostgreSQL,
		shared: aPostgres(servers.FastPostgres...).get, durable: aPostgres().get,
		dsn: func(_ testing.TB, addr string) string {
			return "postgres://postgres@" + addr + "/postgres?sslmode=disable"
		},
		lock: "SELECT 1 FROM %s FOR UPDATE",
	}
	mariadb = engine{
		name: "MariaDB", driver: "mysql", dialect: sqlstore.MySQL,
		shared: aMariaDB(servers.FastMariaDB...).get, durable: aMariaDB().get,
		dsn:  func(_ testing.TB, addr string) string { return "app@tcp(" + addr + ")/test" },
		lock: "SELECT 1 FROM %s FOR UPDATE",
	}
	all = []engine{sqlite, postgres, mariadb}
	// variants are other ways to use the same servers.
	variants = []engine{
		postgres.with("simple protocol", "&default_query_exec_mode=simple_protocol", sqlstore.Options{Unprepared: true}),
		postgres.with("serializable", "&default_transaction_isolation=serializable", sqlstore.Options{}),
		mariadb.with("clientFoundRows", "?clientFoundRows=true&interpolateParams=true", sqlstore.Options{Unprepared: true}),
	}
)

// with returns the engine with more in its DSN.
func (e engine) with(name, more string, opts sqlstore.Options) engine {
	dsn := e.dsn
	e.name += " " + name
	e.options = opts
	e.dsn = func(t testing.TB, addr string) string { return dsn(t, addr) + more }
	return e
}

// A place is a table in a database, as a process needs it to open a store.
type place struct {
	engine
	server server
	addr   string
	data   string // the DSN
	table  string
}

// place makes a table in the shared server.
func (e engine) place(t testing.TB) place {
	t.Helper()
	return e.in(t, e.shared)
}

// own makes a table in the server that tests may kill. A test that ends while the server is down starts it again.
func (e engine) own(t testing.TB) place {
	t.Helper()
	return e.in(t, e.durable)
}

func (e engine) in(t testing.TB, start func(testing.TB) (server, string)) place {
	t.Helper()
	p := place{engine: e, table: "s_" + strings.ToLower(rand.Text()[:12])}
	if start != nil {
		p.server, p.addr = start(t)
	}
	p.data = e.dsn(t, p.addr)
	p.setup(t)
	return p
}

func (p place) setup(t testing.TB) {
	t.Helper()
	db, err := sql.Open(p.driver, p.data)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := p.on(t, db)
	defer store.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := store.Setup(ctx); err != nil {
		t.Fatal(err)
	}
}

// db opens a pool, which the end of the test closes.
func (p place) db(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open(p.driver, p.data)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxIdleConns(10)
	t.Cleanup(func() { db.Close() }) // an error means that a connection was dead
	return db
}

// on makes a store of the table.
func (p place) on(t testing.TB, db *sql.DB) *sqlstore.Store {
	t.Helper()
	opts := p.options
	opts.Table = p.table
	store, err := sqlstore.New(db, p.dialect, opts)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// open makes a store with a pool of its own.
func (p place) open(t testing.TB) *sqlstore.Store {
	t.Helper()
	store := p.on(t, p.db(t))
	t.Cleanup(func() { store.Close() })
	return store
}

// through returns the place behind a proxy.
func (p place) through(t testing.TB) (place, *proxy) {
	t.Helper()
	x := startProxy(t, p.addr)
	p.addr = x.addr
	p.data = p.dsn(t, p.addr)
	return p, x
}

// each runs fn on each engine, on all at the same time.
func each(t *testing.T, engines []engine, fn func(t *testing.T, e engine)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			fn(t, e)
		})
	}
}

// soon returns a context that ends after limit.
func soon(t testing.TB, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// later is when records expire that should not.
func later() time.Time { return time.Now().Add(time.Hour) }
