package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/canary"
)

// How many clients ask for the cart that crashes, and for how long.
const (
	cartClients = 4
	crashTime   = 2 * time.Second
)

// orders counts the answers of /cart.
type orders struct {
	mu       sync.Mutex
	answered map[string]int // by side
	lost     []error
}

// crash starts a second service, whose new cart is in another process that crashes again and again.
func (d *demo) crash(ctx context.Context) (err error) {
	dir := filepath.Join(d.builder.dir, "crash")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	s, err := startService(ctx, d.builder.path(v1.version), dir, "-canary-bin", d.builder.path(crashing.version))
	if s != nil {
		defer func() { err = errors.Join(err, s.end(endLimit)) }()
	}
	if err == nil {
		err = s.weigh(ctx, "0%", "100%", 1)
	}
	if err != nil {
		return err
	}
	d.load.begin("another service: crashes")
	d.out.say("process", "another service runs its new cart in a process of its own, which panics in a goroutine for 1 of 100 requests")
	got := &orders{answered: map[string]int{}}
	until, stop := context.WithTimeout(ctx, crashTime)
	defer stop()
	var clients sync.WaitGroup
	for range cartClients {
		clients.Go(func() { got.collect(until, s.addr) }) // ends with until
	}
	clients.Wait()
	var v siteView
	if err := s.admin.Status(ctx, &v); err != nil {
		return err
	}
	switch {
	case len(got.lost) > 0:
		return fmt.Errorf("the cart in another process: %d requests were lost: %w", len(got.lost), errors.Join(got.lost...))
	case v.Cart == nil || v.Cart.Failures == 0:
		return fmt.Errorf("the cart in another process has not crashed within %v: status %+v", crashTime, v.Cart)
	}
	byNew, byOld := got.answered[canary.Canary.String()], got.answered[canary.Stable.String()]
	d.out.say("", fmt.Sprintf("%s requests: %s answered by the new cart, %s by the old one in its place, none lost; the process has crashed %d times",
		thousands(byNew+byOld), thousands(byNew), thousands(byOld), v.Cart.Failures))
	return nil
}

// collect asks for the cart until ctx ends.
func (o *orders) collect(ctx context.Context, addr string) {
	w := wire{addr: addr}
	defer w.hangUp()
	for sleep(ctx, thinkTime) == nil {
		resp, body, err := w.exchange("GET /cart HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")
		if err == nil && resp.StatusCode/100 != 2 {
			err = errors.New(resp.Status)
		}
		o.mu.Lock()
		if o.answered[strings.TrimSpace(body)]++; err != nil {
			o.lost = append(o.lost, err)
			w.hangUp()
		}
		o.mu.Unlock()
	}
}
