package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

var pairs = flag.Int("midair.pairs", 2000, "how many overlapping writes TestTwoProcessesLoseNoWrite makes")

const (
	pairRecords = 1000 // records that the writers share
	pairSize    = 300  // bytes of a record
	pairWriters = 8    // goroutines in each process
)

// pairsRole increments the counters in records of the directory in DIR, PAIRS times in all.
func pairsRole() int {
	n, err := strconv.Atoi(os.Getenv("PAIRS"))
	if err != nil {
		return 2
	}
	store := session.Dir(os.Getenv("DIR"))
	begin := time.Now()
	var all sync.WaitGroup
	for range pairWriters {
		all.Go(func() {
			for range n / pairWriters {
				if err := addOne(store, fmt.Sprint("record ", rand.N(pairRecords))); err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
			}
		})
	}
	all.Wait()
	fmt.Printf("took %d\n", time.Since(begin).Microseconds())
	return 0
}

// addOne increments the counter in a record.
func addOne(store session.Store, id string) error {
	ctx := context.Background()
	for {
		rec, err := store.Load(ctx, id)
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint64(rec.Data, binary.BigEndian.Uint64(rec.Data)+1)
		_, err = store.Swap(ctx, id, rec.Rev, rec.Data, time.Now().Add(time.Hour))
		if !errors.Is(err, session.ErrConflict) {
			return err
		}
	}
}

// Two processes with eight goroutines each increment counters by compare-and-swap, and all increments are there. The log says
// how many pairs of Load and Swap were made in a second.
func TestTwoProcessesLoseNoWrite(t *testing.T) {
	dir := t.TempDir()
	store := session.Dir(dir)
	for n := range pairRecords {
		if _, err := store.Create(t.Context(), fmt.Sprint("record ", n), make([]byte, pairSize), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	each := *pairs / 2 / pairWriters * pairWriters
	env := []string{"DIR=" + dir, "PAIRS=" + strconv.Itoa(each)}
	begin := time.Now()
	a := testutil.Start(t, "pairs", testutil.Cfg{Env: env})
	b := testutil.Start(t, "pairs", testutil.Cfg{Env: env})
	for _, p := range []*testutil.Proc{a, b} {
		if code, err := p.Wait(10 * time.Minute); code != 0 || err != nil {
			t.Fatalf("exit %d, %v: %s", code, err, p.Output())
		}
	}
	took := time.Since(begin)
	var sum uint64
	for n := range pairRecords {
		rec, err := store.Load(t.Context(), fmt.Sprint("record ", n))
		if err != nil {
			t.Fatal(err)
		}
		sum += binary.BigEndian.Uint64(rec.Data)
	}
	if sum != uint64(2*each) {
		t.Errorf("%d of %d increments are there", sum, 2*each)
	}
	t.Logf("%d pairs of Load and Swap by two processes: %.0f in a second", sum, float64(sum)/took.Seconds())
}
