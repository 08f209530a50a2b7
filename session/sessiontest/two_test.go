package sessiontest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sessiontest"
)

// openOther opens the store of the other process.
func openOther() (session.Store, error) {
	switch os.Getenv("OTHER") {
	case "refused":
		return nil, errors.New("refused for the test")
	case "noisy":
		fmt.Println("a line on standard output")
	}
	return flawedDir(os.Getenv("DIR"), os.Getenv("FLAW")), nil
}

// flawedDir is a store in dir, with a flaw that shows between processes alone.
func flawedDir(dir, flaw string) session.Store {
	switch flaw {
	case "memory":
		return newMemory("")
	case "cache":
		return &caching{Store: session.Dir(dir), known: map[string]session.Record{}}
	case "unlocked":
		return unlocked{Store: session.Dir(dir), mu: new(sync.Mutex)}
	}
	return session.Dir(dir)
}

// A caching store answers from what this process knows.
type caching struct {
	session.Store
	mu    sync.Mutex
	known map[string]session.Record
}

func (c *caching) Load(ctx context.Context, id string) (session.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rec, ok := c.known[id]
	if !ok || !time.Now().Before(rec.Expires) || ctx.Err() != nil {
		var err error
		if rec, err = c.Store.Load(ctx, id); err != nil {
			return rec, err
		}
		c.known[id] = rec
	}
	rec.Data = bytes.Clone(rec.Data)
	return rec, nil
}

func (c *caching) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, id)
	return c.Store.Swap(ctx, id, rev, data, expires)
}

func (c *caching) Touch(ctx context.Context, id string, expires time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, id)
	return c.Store.Touch(ctx, id, expires)
}

func (c *caching) Delete(ctx context.Context, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, id)
	return c.Store.Delete(ctx, id)
}

// An unlocked store compares and swaps in two steps, with a lock of its own process around them.
type unlocked struct {
	session.Store
	mu *sync.Mutex
}

func (u unlocked) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.Store.Create(ctx, id, data, expires)
}

func (u unlocked) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	rec, err := u.Load(ctx, id)
	if err != nil {
		return 0, err
	}
	if rec.Rev != rev {
		return 0, session.ErrConflict
	}
	for {
		next, err := u.Store.Swap(ctx, id, rec.Rev, data, expires)
		if !errors.Is(err, session.ErrConflict) {
			return next, err
		}
		if rec, err = u.Load(ctx, id); err != nil {
			return 0, err
		}
	}
}

// A store that keeps its promises between processes passes. What the other process prints does not disturb the calls.
func TestAGoodStorePassesFromTwoProcesses(t *testing.T) {
	sessiontest.RunTwo(t, func(t *testing.T) (session.Store, []string) {
		dir := t.TempDir()
		return session.Dir(dir), []string{"DIR=" + dir, "OTHER=noisy"}
	})
}

// TestFlawedPair is run by TestEachFlawBetweenProcessesIsFound, in another process.
func TestFlawedPair(t *testing.T) {
	flaw := os.Getenv("FLAW")
	if flaw == "" {
		t.Skip("it is made to fail")
	}
	sessiontest.RunTwo(t, func(t *testing.T) (session.Store, []string) {
		dir := t.TempDir()
		return flawedDir(dir, flaw), []string{"DIR=" + dir, "FLAW=" + flaw, "OTHER=" + flaw}
	})
}

// TestFlawedAlone is run by TestEachFlawBetweenProcessesIsFound, in another process.
func TestFlawedAlone(t *testing.T) {
	flaw := os.Getenv("FLAW")
	if flaw == "" {
		t.Skip("it is half of another test")
	}
	sessiontest.Run(t, func(t *testing.T) session.Store { return flawedDir(t.TempDir(), flaw) })
}

// A store that keeps its promises in each process and breaks them between two passes Run, and fails RunTwo.
func TestEachFlawBetweenProcessesIsFound(t *testing.T) {
	flaws := map[string][]string{
		"memory":   {"LoadReturnsWhatCreateStored", "OneCreateWins", "DeletedIsGone"},
		"cache":    {"SwapNeedsTheRevision", "TouchChangesTheExpiryAlone", "DeletedIsGone"},
		"unlocked": {"NoSwapIsLost"},
		"refused":  {"LoadReturnsWhatCreateStored"},
	}
	for flaw, promises := range flaws {
		t.Run(flaw, func(t *testing.T) {
			if out, err := runFlawed(t, "TestFlawedAlone", flaw); err != nil {
				t.Fatalf("Run failed, %v:\n%s", err, out)
			}
			out, err := runFlawed(t, "TestFlawedPair", flaw, promises...)
			if err == nil {
				t.Fatalf("all checks passed:\n%s", out)
			}
			for _, promise := range promises {
				if !strings.Contains(out, "--- FAIL: TestFlawedPair/"+promise+" ") {
					t.Errorf("%s was kept:\n%s", promise, out)
				}
			}
		})
	}
}
