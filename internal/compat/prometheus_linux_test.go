package compat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/internal/testutil"
)

// startPrometheus starts a Prometheus server from Debian that scrapes a target five times a second, and returns its URL.
func startPrometheus(t *testing.T, target string) string {
	t.Helper()
	program, addr, dir := testutil.Program(t, "prometheus", "prometheus"), testutil.LastingAddr(t), t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs:\n  - job_name: shop\n    static_configs: [{targets: [%q]}]\n", target)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	proc := testutil.StartCommand(t, testutil.Cfg{Dir: dir}, program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn")
	base := "http://" + addr
	if !testutil.Within(time.Minute, func() bool { return get(base+"/-/ready") == nil }) {
		t.Fatalf("prometheus is not ready: %s", proc.Output())
	}
	t.Cleanup(func() {
		proc.Signal(syscall.SIGTERM)
		if _, err := proc.Wait(time.Minute); err != nil {
			t.Error(err)
		}
	})
	return base
}

// get returns nil if the answer is 200.
func get(address string) error {
	_, err := load(context.Background(), address)
	return err
}

func load(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return body, err
}

// query returns the value of a query that has one, and 0 if it has none.
func query(ctx context.Context, server, text string) (float64, error) {
	body, err := load(ctx, server+"/api/v1/query?query="+url.QueryEscape(text))
	if err != nil {
		return 0, err
	}
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Data.Result) == 0 {
		return 0, err
	}
	value, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(value, 64)
}

// A canary answers well and loses orders, which only a counter of the program shows. Prometheus scrapes the counter, and the opinion
// that asks Prometheus holds the rollout, lowers the weight, and takes the canary back, one after the other as more orders are lost. While
// Prometheus does not answer, the rollout holds.
func TestPrometheusHoldsLowersAndTakesBack(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var lost atomic.Int64
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE orders_lost_total counter\norders_lost_total{side=\"canary\"} %d\n", lost.Load())
	}))
	t.Cleanup(metrics.Close)
	server := startPrometheus(t, strings.TrimPrefix(metrics.URL, "http://"))

	var base atomic.Pointer[string]
	base.Store(&server)
	ro, err := rollout.New(rollout.Options{
		Name: "cart", Logger: slog.New(slog.DiscardHandler), AskEvery: 100 * time.Millisecond,
		Steps: rollout.Steps{{Weight: .2, For: time.Second, Gate: true}, {Weight: .5, For: 24 * time.Hour}},
		Opinion: func(ctx context.Context, _ rollout.Status) rollout.Opinion {
			n, err := query(ctx, *base.Load(), `sum(orders_lost_total{side="canary"})`)
			reason := fmt.Sprintf("%v orders are lost", n)
			switch {
			case err != nil:
				return rollout.Opinion{Hold: true, Reason: err.Error()}
			case n >= 50:
				return rollout.Opinion{RollBack: true, Reason: reason}
			case n >= 10:
				return rollout.Opinion{Most: .05, Reason: reason}
			}
			return rollout.Opinion{Hold: n > 0, Reason: reason}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	loses := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lost.Add(1)
		answer(w, r)
	})
	cart := canary.NewRouter(answer, loses, canary.Options{Salt: ro.Salt(), Weight: ro.Weight, Begin: ro.Begin, Observe: ro.Observe})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- ro.Run(ctx) }() // ends with stop
	defer func() {
		stop()
		<-ended
	}()
	wait := func(what string, cond func(s rollout.Status) bool) {
		t.Helper()
		if !testutil.Within(20*time.Second, func() bool { return cond(ro.Status()) }) {
			s := ro.Status()
			t.Fatalf("no %s: %v, weight %v, %q, %+v", what, s.State, s.Weight, s.Reason, s.Opinion)
		}
	}
	lose := func(n int64) {
		for lost.Load() < n {
			cart.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/cart", nil))
		}
	}
	holds := func(text string) func(s rollout.Status) bool {
		return func(s rollout.Status) bool {
			return s.Opinion != nil && s.Opinion.Hold && strings.Contains(s.Opinion.Reason, text)
		}
	}

	wait("gate", func(s rollout.Status) bool { return s.State == rollout.Gated && s.Weight == .2 })
	lose(1)
	wait("hold", holds("1 orders"))
	if err := ro.Resume("go on"); err != nil {
		t.Error(err)
	}
	wait("step that is held", func(s rollout.Status) bool {
		return s.State == rollout.Ramping && s.Step == 1 && strings.Contains(s.Waits, "1 orders")
	})
	nowhere := "http://" + testutil.LastingAddr(t)
	base.Store(&nowhere)
	wait("hold without an answer", holds("refused"))
	base.Store(&server)
	wait("hold", holds("1 orders"))
	lose(10)
	wait("lower weight", func(s rollout.Status) bool { return s.Weight == .05 && s.State == rollout.Ramping })
	lose(50)
	wait("rollback", func(s rollout.Status) bool {
		return s.State == rollout.Aborted && s.Weight == 0 && strings.Contains(s.Reason, "orders are lost")
	})
	if s := ro.Status().Judge; s.Canary.Bad+s.Stable.Bad > 0 {
		t.Errorf("the judge has seen bad outcomes: %+v", s.Canary)
	}
}
