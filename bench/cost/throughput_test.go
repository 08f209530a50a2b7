//go:build linux

package cost

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// minThroughput is how many requests a second the slowest server answers at least, as a multiple of the throughput of net/http.
// The aim is 0.98. The margin is wide, because other processes take a part of the processors, and not the same part in each run.
const minThroughput = 0.5

// maxAllocs is less than the single allocation that a server may not add to a request, and more than what the pools of net/http,
// the connections and the requests for the usage add to the mean in a short run.
const maxAllocs = 0.5

// A load is a program that sends requests to a server for a while. Each answer has to be complete and of status 200.
type load struct {
	name, program, pkg string
	args               func(addr string, seconds int) []string
	failed             *regexp.Regexp // matches the output of the program if a request has failed
}

var loads = []load{
	{
		"HTTP/1.1, keep-alive, 32 connections (wrk)", "wrk", "wrk",
		func(addr string, seconds int) []string {
			return []string{"-t1", "-c32", fmt.Sprintf("-d%ds", seconds), "http://" + addr + "/"}
		},
		regexp.MustCompile(`Socket errors|Non-2xx`),
	},
	{
		"HTTP/2 without TLS, 8 connections, 8 streams each (h2load)", "h2load", "nghttp2-client",
		func(addr string, seconds int) []string {
			return []string{"-t1", "-c8", "-m8", fmt.Sprintf("-D%d", seconds), "http://" + addr + "/"}
		},
		regexp.MustCompile(`[1-9]\d* (failed|errored|timeout|3xx|4xx|5xx)`),
	},
}

// A sample is what a server did in a run of a load.
type sample struct{ perSecond, cpu, allocs float64 }

// Throughput and allocations are as with net/http. The runs of the servers are interleaved, and the medians are compared.
func TestThroughputIsAsWithoutDrain(t *testing.T) {
	rounds, seconds := 3, 1
	if *long {
		rounds, seconds = 9, 3
	}
	for _, l := range loads {
		t.Run(l.program, func(t *testing.T) {
			path := testutil.Program(t, l.program, l.pkg)
			services := startAll(t)
			samples := make([][]sample, len(services))
			for round := range rounds {
				for i := range services { // each round begins with another server
					at := (i + round) % len(services)
					samples[at] = append(samples[at], services[at].load(path, l, seconds))
				}
			}
			l.compare(t, samples)
		})
	}
}

// compare shows the medians, and compares the throughput and the allocations with those of the first server. A ratio is the
// median of the ratios of all rounds.
func (l load) compare(t *testing.T, samples [][]sample) {
	t.Helper()
	var table strings.Builder
	fmt.Fprintf(&table, "%s, medians of %d runs\n", l.name, len(samples[0]))
	fmt.Fprintf(&table, "%-14s %11s %7s %15s %7s %15s\n", "", "requests/s", "ratio", "CPU ns/request", "ratio", "allocs/request")
	var first sample
	for i, all := range samples {
		var m sample
		m.perSecond, _ = summary(all, func(s sample) float64 { return s.perSecond })
		m.cpu, _ = summary(all, func(s sample) float64 { return s.cpu })
		m.allocs, _ = summary(all, func(s sample) float64 { return s.allocs })
		if i == 0 {
			first = m
		}
		ratio := medianRatio(all, samples[0], func(s sample) float64 { return s.perSecond })
		cpu := medianRatio(all, samples[0], func(s sample) float64 { return s.cpu })
		fmt.Fprintf(&table, "%-14s %11.0f %7.3f %15.0f %7.3f %15.3f\n", roles[i], m.perSecond, ratio, m.cpu, cpu, m.allocs)
		if ratio < minThroughput {
			t.Errorf("%s: %.3f of the throughput of net/http, want at least %.2f", roles[i], ratio, minThroughput)
		}
		if more := m.allocs - first.allocs; more > maxAllocs {
			t.Errorf("%s: %.3f allocations are added to a request", roles[i], more)
		}
	}
	t.Log(table.String())
}

// medianRatio returns the median of the ratios of a value in two runs of the same round.
func medianRatio(of, to []sample, value func(sample) float64) float64 {
	ratios := make([]float64, len(of))
	for i := range of {
		ratios[i] = value(of[i]) / value(to[i])
	}
	median, _ := summary(ratios, func(r float64) float64 { return r })
	return median
}

// load runs a load against the server.
func (s *service) load(path string, l load, seconds int) sample {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	before, began := s.usage(""), time.Now()
	out, err := exec.CommandContext(ctx, path, l.args(s.addr, seconds)...).CombinedOutput()
	took, after := time.Since(began), s.usage("")
	n := float64(after.Requests - before.Requests)
	if bad := l.failed.FindString(string(out)); err != nil || bad != "" || n == 0 {
		s.t.Fatalf("%s %s: %v %s\n%s", l.program, s.role, err, bad, out)
	}
	return sample{
		perSecond: n / took.Seconds(),
		cpu:       float64(after.CPU-before.CPU) / n,
		allocs:    float64(after.Allocs-before.Allocs) / n,
	}
}
