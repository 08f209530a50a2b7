package redisstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/session"
)

// page is how many keys a server is asked for at once.
const page = 256

// globs escapes the special characters in a pattern of SCAN.
var globs = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// All returns the records that live during the whole iteration, each once, in no order. A record may be missing if meanwhile
// the record is created, removed, or moved from one server of a cluster to another. The first error ends the iteration. All
// reads page by page and keeps 16 bytes for each record.
func (s *Store) All(ctx context.Context) iter.Seq2[session.Record, error] {
	return func(yield func(session.Record, error) bool) {
		nodes, err := s.nodes(ctx)
		seen := map[[16]byte]bool{}
		more := true
		for i := 0; i < len(nodes) && err == nil && more; i++ {
			more, err = s.scan(ctx, nodes[i], seen, yield)
		}
		if err != nil && more {
			yield(session.Record{}, fail(ctx, "scan", err))
		}
	}
}

// nodes returns a client for each server with keys: for each master of a cluster, or for the only server.
func (s *Store) nodes(ctx context.Context) ([]redis.Cmdable, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{s.client}, nil
	}
	var mu sync.Mutex
	var nodes []redis.Cmdable
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	})
	return nodes, err
}

// scan passes the records of a server to yield, and reports whether yield wants more.
func (s *Store) scan(ctx context.Context, node redis.Cmdable, seen map[[16]byte]bool,
	yield func(session.Record, error) bool) (more bool, err error) {
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		var keys []string
		if err := ctx.Err(); err != nil {
			return true, err
		}
		keys, cursor, err = node.Scan(ctx, cursor, globs.Replace(s.prefix)+"*", page).Result()
		if err != nil {
			return true, err
		}
		records, err := s.read(ctx, s.unseen(keys, seen))
		if err != nil {
			return true, err
		}
		for _, rec := range records {
			if !yield(rec, nil) {
				return false, nil
			}
		}
	}
	return true, nil
}

// unseen returns the keys of records that are not in seen, and adds these keys to seen: a server may return a key twice.
func (s *Store) unseen(keys []string, seen map[[16]byte]bool) []string {
	var fresh []string
	for _, key := range keys {
		sum := sha256.Sum256([]byte(key))
		short := [16]byte(sum[:16])
		if !seen[short] && key != s.prefix+secretName {
			seen[short] = true
			fresh = append(fresh, key)
		}
	}
	return fresh
}

// read returns the records of keys, in one round trip to each server. A key without a record is left out.
func (s *Store) read(ctx context.Context, keys []string) ([]session.Record, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys {
			p.Get(ctx, key)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	records := make([]session.Record, 0, len(cmds))
	for _, cmd := range cmds {
		value, err := cmd.(*redis.StringCmd).Bytes()
		if errors.Is(err, redis.Nil) {
			continue
		}
		var rec session.Record
		if err == nil {
			rec, err = decode(value)
		}
		if err != nil {
			return nil, err
		}
		records = append(records, rec)
	}
	return records, nil
}
