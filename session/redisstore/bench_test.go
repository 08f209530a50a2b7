package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/internal/testutil/servers"
)

// bare is the least that a compare-and-swap needs: one comparison, one write, one expiry.
var bare = redis.NewScript(`
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 1`)

// A load and a swap by the store, beside the bare round trips of GET and EVALSHA with values of the same size. Both are done
// in turn, so that they meet the same machine. store/bare is the ratio of the medians; the goal is 1.2.
func BenchmarkLoadAndSwap(b *testing.B) {
	client := dial(b, 3, servers.StartRedis(b, quick...).Addr)
	for _, size := range []int{200, 4096} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			data := []byte(strings.Repeat("x", size))
			ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
			defer cancel()
			byHand, byStore := bareSwap(ctx, b, client, data), storeSwap(ctx, b, client, data)
			var hand, store []time.Duration
			for b.Loop() {
				hand = append(hand, timed(byHand))
				store = append(store, timed(byStore))
			}
			h, s := median(hand), median(store)
			b.ReportMetric(1/h.Seconds(), "bare/s")
			b.ReportMetric(1/s.Seconds(), "store/s")
			b.ReportMetric(float64(s)/float64(h), "store/bare")
		})
	}
}

func timed(fn func()) time.Duration {
	begin := time.Now()
	fn()
	return time.Since(begin)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func bareSwap(ctx context.Context, b *testing.B, client redis.UniversalClient, data []byte) func() {
	value := strings.Repeat("r", 20) + string(data)
	if err := client.Set(ctx, "bare", value, time.Hour).Err(); err != nil {
		b.Fatal(err)
	}
	return func() {
		got, err := client.Get(ctx, "bare").Result()
		if err != nil {
			b.Fatal(err)
		}
		n, err := bare.Run(ctx, client, []string{"bare"}, got[:8], value, time.Now().Add(time.Hour).UnixMilli()).Int()
		if err != nil || n != 1 {
			b.Fatal(n, err)
		}
	}
}

func storeSwap(ctx context.Context, b *testing.B, client redis.UniversalClient, data []byte) func() {
	store := open(b, client, "")
	if _, err := store.Create(ctx, "id", data, time.Now().Add(time.Hour)); err != nil {
		b.Fatal(err)
	}
	return func() {
		rec, err := store.Load(ctx, "id")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := store.Swap(ctx, "id", rec.Rev, rec.Data, time.Now().Add(time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
}
