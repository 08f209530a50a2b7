package races

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
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/redisstore"
	"github.com/midair-go/midair/session/sqlstore"
)

// An engine is what sessions are kept in, by several processes.
type engine struct {
	name string
	// start makes a place for sessions that nobody else uses: its address, a space, and a name.
	start func(t *testing.T) (where string)
	open  func(where string) (session.Store, error)
}

var engines = []engine{
	{"Dir", func(t *testing.T) string { return t.TempDir() }, onDir},
	{"SQLite", sqliteFile, onSQL("sqlite", sqlstore.SQLite)},
	{"PostgreSQL", onServer(func(t testing.TB) string {
		return "postgres://postgres@" + servers.StartPostgres(t, servers.FastPostgres...).Addr + "/postgres?sslmode=disable"
	}), onSQL("pgx", sqlstore.PostgreSQL)},
	{"MariaDB", onServer(func(t testing.TB) string {
		return "app@tcp(" + servers.StartMariaDB(t, servers.FastMariaDB...).Addr + ")/test"
	}), onSQL("mysql", sqlstore.MySQL)},
	{"Redis", onServer(func(t testing.TB) string { return servers.StartRedis(t, "appendfsync", "everysec").Addr }), onRedis},
}

func onDir(dir string) (session.Store, error) { return session.Dir(dir), nil }

// newName is the name of a table or the prefix of keys.
func newName() string { return "races_" + strings.ToLower(rand.Text()[:12]) }

func sqliteFile(t *testing.T) string {
	const options = "?_pragma=busy_timeout(20)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
	return "file:" + filepath.Join(t.TempDir(), "sessions.db") + options + " " + newName()
}

// onServer makes places on one server, which the first test starts and which lasts until all tests are over.
func onServer(start func(testing.TB) string) func(t *testing.T) string {
	var mu sync.Mutex
	var addr string
	return func(t *testing.T) string {
		mu.Lock()
		defer mu.Unlock()
		if addr == "" {
			addr = start(testutil.Lasting(t))
		}
		return addr + " " + newName()
	}
}

func onSQL(driver string, dialect sqlstore.Dialect) func(where string) (session.Store, error) {
	return func(where string) (session.Store, error) {
		dsn, table, _ := strings.Cut(where, " ")
		db, err := sql.Open(driver, dsn)
		if err != nil {
			return nil, err
		}
		db.SetMaxIdleConns(8)
		db.SetMaxOpenConns(8)
		store, err := sqlstore.New(db, dialect, sqlstore.Options{Table: table})
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return store, store.Setup(ctx)
	}
}

func onRedis(where string) (session.Store, error) {
	addr, prefix, _ := strings.Cut(where, " ")
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	return redisstore.New(client, redisstore.Options{Prefix: prefix + ":"})
}

// engineNamed returns the engine of a process that was started for it.
func engineNamed(name string) (engine, bool) {
	for _, e := range engines {
		if e.name == name {
			return e, true
		}
	}
	return engine{}, false
}

// onEngines runs a test on each engine.
func onEngines(t *testing.T, test func(t *testing.T, e engine)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, e) })
	}
}
