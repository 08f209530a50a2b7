package redisstore_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/redisstore"
)

const (
	// limit is the deadline of a call in a test.
	limit = 500 * time.Millisecond
	// slack is how much later than its deadline a call may return on a busy machine.
	slack = 2 * time.Second
	// back is how long a store may take to work again after an outage.
	back = 15 * time.Second
)

// swapping is the record that is swapped in an outage. A server that was suspended may do so when the outage is over.
const swapping = "swapping"

// calls are all methods of a store that is in trouble. The record swapping is at revision swapped.
func calls(store *redisstore.Store, id string, swapped uint64) map[string]func(context.Context) error {
	later := time.Now().Add(time.Hour)
	return map[string]func(context.Context) error{
		"Create": func(ctx context.Context) error {
			_, err := store.Create(ctx, id+" new", []byte("data"), later)
			return err
		},
		"Load": func(ctx context.Context) error {
			_, err := store.Load(ctx, id)
			return err
		},
		"Swap": func(ctx context.Context) error {
			_, err := store.Swap(ctx, swapping, swapped, []byte("data"), later)
			return err
		},
		"Touch":  func(ctx context.Context) error { return store.Touch(ctx, id, later) },
		"Delete": func(ctx context.Context) error { return store.Delete(ctx, id+" other") },
		"Secret": func(ctx context.Context) error {
			_, err := store.Secret(ctx)
			return err
		},
		"All": func(ctx context.Context) error {
			for _, err := range store.All(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// inTime makes a call with a deadline of limit, and ends the test if the call does not keep it.
func inTime(t *testing.T, what string, call func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	begin := time.Now()
	err := call(ctx)
	if took := time.Since(begin); took > limit+slack {
		t.Fatalf("%s took %v, its deadline was after %v: %v", what, took, limit, err)
	}
	return err
}

// wantFailing checks that each of the named calls fails in time, and that its error passes is.
func wantFailing(t *testing.T, store *redisstore.Store, swapped uint64, is func(error) bool, names ...string) {
	t.Helper()
	all := calls(store, "id", swapped)
	for _, name := range names {
		err := inTime(t, name, all[name])
		if err == nil || errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrConflict) || !is(err) {
			t.Errorf("%s = %v", name, err)
		}
	}
}

// wantWorking waits until the same store works, and checks that the record of id is as it was.
func wantWorking(t *testing.T, store *redisstore.Store, id string, rev uint64) {
	t.Helper()
	var err error
	ok := testutil.Within(back, func() bool {
		err = inTime(t, "Load", func(ctx context.Context) error {
			rec, err := store.Load(ctx, id)
			if err == nil && rec.Rev != rev {
				t.Fatalf("Load returned revision %d, want %d", rec.Rev, rev)
			}
			return err
		})
		return err == nil
	})
	if ok {
		ok = testutil.Within(back, func() bool {
			err = inTime(t, "Swap", func(ctx context.Context) error {
				_, err := store.Swap(ctx, id, rev, []byte("after"), time.Now().Add(time.Hour))
				return err
			})
			return err == nil
		})
	}
	if !ok {
		t.Fatalf("the store does not work again: %v", err)
	}
}

func create(t *testing.T, store *redisstore.Store, id string) uint64 {
	t.Helper()
	rev, err := store.Create(t.Context(), id, []byte("before"), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

var (
	every  = []string{"Create", "Load", "Swap", "Touch", "Delete", "Secret", "All"}
	writes = []string{"Create", "Swap", "Touch"}
)

func isTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || isTimeout(err)
}

func hasPrefix(prefix string) func(error) bool {
	return func(err error) bool { return redis.HasErrorPrefix(err, prefix) }
}

// An outage is what may happen to a server.
type outage struct {
	settings []string // of the server
	begin    func(t *testing.T, r *servers.Redis)
	end      func(t *testing.T, r *servers.Redis)
	is       func(error) bool
	fails    []string
}

var outages = map[string]outage{
	"suspended": {
		begin: func(_ *testing.T, r *servers.Redis) { r.Suspend() },
		end:   func(_ *testing.T, r *servers.Redis) { r.Continue() },
		is:    isTimeout, fails: every,
	},
	"killed": {
		settings: []string{"appendonly", "yes"},
		begin:    func(_ *testing.T, r *servers.Redis) { r.Kill() },
		end:      func(_ *testing.T, r *servers.Redis) { r.Start() },
		is:       isDialError, fails: every,
	},
	"read-only": {
		begin: func(_ *testing.T, r *servers.Redis) { r.Call("REPLICAOF", "127.0.0.1", "1") },
		end:   func(_ *testing.T, r *servers.Redis) { r.Promote() },
		is:    redis.IsReadOnlyError, fails: append(writes[:3:3], "Delete"),
	},
	"full": {
		begin: func(_ *testing.T, r *servers.Redis) { r.Call("CONFIG", "SET", "maxmemory", "1") },
		end:   func(_ *testing.T, r *servers.Redis) { r.Call("CONFIG", "SET", "maxmemory", "0") },
		is:    redis.IsOOMError, fails: writes,
	},
	"disk": {
		settings: []string{"save", "3600 1"},
		begin:    failSnapshots, end: mendSnapshots,
		is: hasPrefix("MISCONF"), fails: append(writes[:3:3], "Delete"),
	},
	"cluster down": {
		settings: []string{"cluster-enabled", "yes", "cluster-allow-replica-migration", "no"},
		begin:    func(_ *testing.T, r *servers.Redis) { r.Call("CLUSTER", "DELSLOTSRANGE", "0", "16383") },
		end:      func(_ *testing.T, r *servers.Redis) { r.Call("CLUSTER", "ADDSLOTSRANGE", "0", "16383") },
		is:       redis.IsClusterDownError, fails: []string{"Create", "Load", "Swap", "Touch", "Delete"},
	},
}

// failSnapshots makes the server unable to write a snapshot, which stops all writes, as a full disk does.
func failSnapshots(t *testing.T, r *servers.Redis) {
	blocker := filepath.Join(r.Setting("dir"), "dump.rdb")
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	snapshot(t, r, "err")
}

func mendSnapshots(t *testing.T, r *servers.Redis) {
	if err := os.Remove(filepath.Join(r.Setting("dir"), "dump.rdb")); err != nil {
		t.Fatal(err)
	}
	snapshot(t, r, "ok")
}

func snapshot(t *testing.T, r *servers.Redis, want string) {
	t.Helper()
	r.Call("BGSAVE")
	testutil.Until(t, back, "a snapshot that ends with "+want, func() bool {
		return strings.Contains(r.Call("INFO", "persistence"), "rdb_last_bgsave_status:"+want)
	})
}

// Whatever happens to a server, calls end by their deadline with its error, and the same store works when the server does,
// with the record as it was.
func TestOutagesEnd(t *testing.T) {
	t.Parallel()
	for name, o := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := append(append([]string(nil), quick...), o.settings...)
			server := servers.StartRedis(t, settings...)
			if strings.HasPrefix(name, "cluster") {
				server.Call("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
				server.WaitCluster(1)
			}
			store := open(t, dial(t, 3, server.Addr), "")
			rev, swapped := create(t, store, "id"), create(t, store, swapping)
			o.begin(t, server)
			wantFailing(t, store, swapped, o.is, o.fails...)
			o.end(t, server)
			wantWorking(t, store, "id", rev)
		})
	}
}
