//go:build linux

package loss

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var long = flag.Bool("midair.long", false, "run the clients that others wrote too: two minutes, and Debian packages")

// Clients that others wrote lose nothing either, by upgrades and by progressive ones.
func TestIndependentClientsLoseNothing(t *testing.T) {
	if !*long {
		t.Skip("NOT RUN: it takes two minutes, and programs of Debian packages; -midair.long runs it")
	}
	clients := independent(t)
	compare(t, clients)
	progress(t, clients)
}

// independent returns the clients, and installs what is missing.
func independent(t *testing.T) []protocol {
	t.Helper()
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, []byte(strings.Repeat("x", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	load := h2load{testutil.Program(t, "h2load", "nghttp2-client"), body}
	c := curl{testutil.Program(t, "curl", "curl"), body}
	frames := testutil.Python(t, "h2", "python3-h2")
	ws := testutil.Python(t, "websockets", "python3-websockets")
	calls := testutil.Python(t, "grpc", "python3-grpcio")
	say, chat := script(calls, "grpc_client.py", "say", farewell), script(calls, "grpc_client.py", "chat", farewell)
	return []protocol{
		{"h2load, h2c, 5 × 20 at once", web, again("http", load.atOnce)},
		{"h2load, TLS, 5 × 20 at once", sec, again("https", load.atOnce)},
		{"h2load, h2c, 5 × 20 streams", web, again("http", load.onAndOn)},
		{"h2load, TLS, 5 × 20 streams", sec, again("https", load.onAndOn)},
		{"curl, HTTP/1.1 keep-alive", web, again("http", c.oneByOne)},
		{"curl, HTTP/2 over TLS, 20 streams", sec, again("https", c.sideBySide)},
		{"python3-h2, frame by frame, h2c", web, script(frames, "h2_client.py")},
		{"python3-websockets", web, script(ws, "ws_client.py")},
		{"python3-grpcio, unary", rpc, onWire(say, func(t *tally) int64 { return t.ok.Load() + t.lost.Load() })},
		{"python3-grpcio, streams", rpc, onWire(chat, func(t *tally) int64 { return t.told.Load() + t.cut.Load() })},
	}
}

// runLimit is how long a program may take whose work has an end.
const runLimit = time.Minute

// again runs a program one time after the other, until ctx ends.
func again(scheme string, run func(ctx context.Context, scheme, addr string, t *tally)) func(context.Context, string, *tally) {
	return func(ctx context.Context, addr string, t *tally) {
		for ctx.Err() == nil {
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), runLimit)
			run(limit, scheme, addr, t)
			cancel()
		}
	}
}

// scan runs a command, and reads the lines of its standard output and error. That it fails counts as lost.
func scan(cmd *exec.Cmd, t *tally, line func(string)) {
	out, err := cmd.StdoutPipe()
	cmd.Stderr = cmd.Stdout
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.request(err)
		return
	}
	s := bufio.NewScanner(out)
	for s.Scan() {
		line(s.Text())
	}
	if err := errors.Join(s.Err(), cmd.Wait()); err != nil {
		t.request(fmt.Errorf("%s: %w", cmd.Path, err))
	}
}

// h2load posts over several connections with several streams each, and never repeats.
type h2load struct{ exe, body string }

const conns, streams = 5, 20

var sum = regexp.MustCompile(`^requests: .* (\d+) succeeded`)

// run says how many requests have succeeded, and the line that h2load says about it.
func (h h2load) run(ctx context.Context, url string, requests int, t *tally) (succeeded int, said string) {
	cmd := exec.CommandContext(ctx, h.exe, "-c", strconv.Itoa(conns), "-m", strconv.Itoa(streams), "-n", strconv.Itoa(requests),
		"-N", "30", "-d", h.body, url+"/work?d=100ms")
	scan(cmd, t, func(line string) {
		if m := sum.FindStringSubmatch(line); m != nil {
			succeeded, _ = strconv.Atoi(m[1]) // digits
			said = line
		}
	})
	t.ok.Add(int64(succeeded))
	return succeeded, said
}

// atOnce opens all streams as soon as there is a connection: whatever h2load counts as failed is lost.
func (h h2load) atOnce(ctx context.Context, scheme, addr string, t *tally) {
	succeeded, said := h.run(ctx, scheme+"://"+addr, conns*streams, t)
	for range conns*streams - succeeded {
		t.request(errors.New(said))
	}
}

// onAndOn opens a stream when another is answered. A connection that was told to end opens no other, and h2load counts
// what it has not sent as failed, so what it sends is counted on the way: each of that has to succeed.
func (h h2load) onAndOn(ctx context.Context, scheme, addr string, t *tally) {
	const requests = 20 * conns * streams
	w, err := startWire(scheme, addr)
	if err != nil {
		t.request(err)
		return
	}
	succeeded, said := h.run(ctx, scheme+"://"+w.Addr().String(), requests, t)
	sent := w.end()
	for range max(sent, conns*streams) - succeeded { // each connection sends its first streams, whatever it is told
		t.request(fmt.Errorf("%d sent: %s", sent, said))
	}
	if sent < requests {
		t.end(true, nil)
	}
}

// curl posts many times in one process.
type curl struct{ exe, body string }

var transfer = regexp.MustCompile(`transfer: (\d+) (\d+)`)

// run counts transfers. curl repeats by itself what got no answer on a connection that was used before, and says so: that
// is lost.
func (c curl) run(ctx context.Context, url string, t *tally, more ...string) {
	args := append(more, "-s", "-v", "-k", "--retry", "0", "-m", "30", "-o", os.DevNull, "-d", "@"+c.body,
		"-w", `%{stderr}transfer: %{http_code} %{exitcode} of %{url}\n`, url+"/work?d=3ms&n=[1-300]")
	scan(exec.CommandContext(ctx, c.exe, args...), t, func(line string) {
		m := transfer.FindStringSubmatch(line)
		switch {
		case m != nil && m[1] == "200" && m[2] == "0":
			t.request(nil)
		case m != nil, strings.Contains(line, "retrying a fresh connect"):
			t.request(errors.New(line))
		}
	})
}

func (c curl) oneByOne(ctx context.Context, scheme, addr string, t *tally) {
	c.run(ctx, scheme+"://"+addr, t, "--http1.1")
}

func (c curl) sideBySide(ctx context.Context, scheme, addr string, t *tally) {
	c.run(ctx, scheme+"://"+addr, t, "--http2", "--parallel", "--parallel-max", strconv.Itoa(streams))
}

// script runs one of testdata until ctx ends, which it learns by the end of its standard input. Its lines are what a
// client met.
func script(python, name string, args ...string) func(context.Context, string, *tally) {
	return func(ctx context.Context, addr string, t *tally) {
		limit, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		cmd := exec.CommandContext(limit, python, append([]string{filepath.Join("testdata", name), addr}, args...)...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.request(err)
			return
		}
		defer context.AfterFunc(ctx, func() {
			in.Close()
			kill := time.AfterFunc(runLimit, cancel)
			context.AfterFunc(limit, func() { kill.Stop() })
		})()
		scan(cmd, t, func(line string) {
			switch what, _, _ := strings.Cut(line, " "); what {
			case "ok":
				t.request(nil)
			case "told":
				t.end(true, nil)
			case "cut":
				t.end(false, errors.New(line))
			default: // lost, or what Python says of an error
				t.request(errors.New(line))
			}
		})
	}
}

// onWire counts the streams of a gRPC client, which sends again, unasked, what the last GOAWAY has refused: grpc sends that
// as soon as its PING is answered, and grpcio may answer it before a stream that it has begun. The call does not fail; its
// first stream counts as told.
func onWire(run func(context.Context, string, *tally), calls func(*tally) int64) func(context.Context, string, *tally) {
	return func(ctx context.Context, addr string, t *tally) {
		w, err := startWire("http", addr)
		if err != nil {
			t.request(err)
			return
		}
		run(ctx, w.Addr().String(), t)
		for range int64(w.end()) - calls(t) {
			t.end(true, nil)
		}
	}
}
