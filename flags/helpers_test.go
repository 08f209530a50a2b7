package flags_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/httpflags"
	"github.com/midair-go/midair/internal/logqueue"
)

// serveWith serves one request behind the middleware.
func serveWith(f *flags.Flags, who func(*http.Request) (string, map[string]any), h http.HandlerFunc) {
	r := httptest.NewRequest("GET", "/", nil)
	httpflags.Middleware(f, who)(h).ServeHTTP(httptest.NewRecorder(), r)
}

// file is a flag file with one boolean flag, "cart", whose default variant is given.
func file(variant string) string {
	return fmt.Sprintf(`{"flags": {"cart": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": %q}}}`, variant)
}

// rule is a flag file with one string flag, "f", that has the variants a, b, c, true, false, 1 and 2, each with its name
// as the value, the default variant none, and the given targeting.
func rule(targeting string) string {
	return fmt.Sprintf(`{"flags": {"f": {"state": "ENABLED", "defaultVariant": "none", "targeting": %s, "variants":
		{"a": "a", "b": "b", "c": "c", "true": "true", "false": "false", "1": "1", "2": "2", "none": "none"}}}}`, targeting)
}

// number is a flag file with one number flag, "w".
func number(value string) string {
	return fmt.Sprintf(`{"flags": {"w": {"state": "ENABLED", "variants": {"v": %s}, "defaultVariant": "v"}}}`, value)
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace writes the content beside the file and renames it over.
func replace(t testing.TB, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// journal keeps what is logged.
type journal struct {
	log *slog.Logger

	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) lines() []string {
	logqueue.Flush(j.log)
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Split(strings.TrimSpace(j.buf.String()), "\n")
}

// logger returns a logger whose lines are read as soon as they are logged.
func (j *journal) logger() *slog.Logger {
	j.log = logqueue.Wrap(slog.New(slog.NewTextHandler(j, nil)))
	return j.log
}

// open opens the file at path with a poller that never looks: tests call Check.
func open(t testing.TB, path string, opts flags.Options) *flags.Flags {
	t.Helper()
	opts.Poll = max(opts.Poll, time.Hour)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	f, err := flags.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// serve opens a file with the content, which has to be good.
func serve(t testing.TB, content string) *flags.Flags {
	t.Helper()
	f, _ := served(t, content, flags.Options{})
	return f
}

func served(t testing.TB, content string, opts flags.Options) (*flags.Flags, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flags.json")
	write(t, path, content)
	f := open(t, path, opts)
	if err := f.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	return f, path
}

// cart is what the flag of file says; "default" if the caller's default was the answer.
func cart(f *flags.Flags) string {
	d := f.BoolFlag("cart", false).Details(context.Background())
	if d.Variant == "" {
		return "default"
	}
	return d.Variant
}

func mustBe[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func mustHold(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not tell %q", text, part)
		}
	}
}
